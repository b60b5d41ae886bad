"""Shared parts of the claims on analytic flows: states of a zoo problem, and cells measured at once."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

import pandas as pd
import torch
from torch import Tensor

from analysis.claims.states import SHORT, FlowStates, stopped_short
from analysis.experiment import Cell, measure_cell
from analysis.losses import HalfSquaredDistance
from analysis.paths import AffinePath
from toy_models.problems import zoo


def path_named(name: str) -> AffinePath:
    """Return a path of the zoo by its name, or the path that is stopped short of the data."""
    return stopped_short() if name == SHORT else zoo.ZOO_PATHS[name]()


def sample_states(problem: str, path: str, times: Sequence[float] | Tensor, n: int, seed: int) -> FlowStates:
    """Sample n states at each of the times (T,), with the same data, noise and targets at each of them."""
    schedule = path_named(path)
    flow, times = zoo.build(problem, schedule), torch.as_tensor(times, dtype=torch.float64)
    data, generator = zoo.distribution(flow), torch.Generator().manual_seed(seed + zlib.crc32(problem.encode()))
    clean, target = data.sample(n, generator), data.sample(n, generator)
    noise = torch.randn(clean.shape, dtype=clean.dtype, generator=generator)
    loss = HalfSquaredDistance(target.repeat(len(times), 1))
    return FlowStates(flow, loss, schedule.states(times, clean, noise), times.repeat_interleave(n))


def measure_cells(cells: Iterable[Cell]) -> pd.DataFrame:
    """Return the rows of all cells in one table."""
    return pd.concat([measure_cell(cell) for cell in cells], ignore_index=True)
