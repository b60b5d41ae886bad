"""Gradients as arrows on a two-dimensional mixture, over its density."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from analysis import reference
from analysis.experiment import Cell
from analysis.gradients import ESTIMATORS
from analysis.losses import HalfSquaredDistance
from analysis.settings import Options, Variant, resolve
from toy_models.cells import error_cell
from toy_models.experiments.common import label

TARGET = (0.0, 3.0)  # one of the eight modes
HALF_WIDTH = 4.2
SETTINGS = (
    Variant.of("greedy"),
    Variant.of("lookahead", solver="midpoint", steps=1, horizon_fraction=0.5),
    Variant.of("lookahead", solver="midpoint", steps=4, horizon_fraction=0.9),
)


def cells(options: Options) -> list[Cell]:
    """Return one cell; ``samples`` is the arrows along a side, even: the centre of the ring is an unstable point."""
    cell = error_cell(options, "ring8", "condot", (0.2, 0.5, 0.8), 8 if options.quick else 10, SETTINGS)
    extra = (("density_points", 40 if options.quick else 120),)
    return [replace(cell, measure="toy_models.experiments.gradient_field:measure", extra=extra)]


def grid(half_width: float, points: int) -> Tensor:
    """Return (points^2, 2) positions on a centred square."""
    line = torch.linspace(-half_width, half_width, points, dtype=torch.float64)
    return torch.cartesian_prod(line, line)


def measure(cell: Cell) -> pd.DataFrame:
    """Return rows (kind, t, x0, x1, v0, v1): v0 of kind "density" is p_t, "target" is a place, the rest gradients."""
    flow = resolve(cell.factory)(cell.problem, cell.path).reference_flow
    loss = HalfSquaredDistance(torch.tensor(TARGET, dtype=torch.float64))
    aim = loss.target[None]
    frames = [_frame(cell, "target", t, aim, torch.zeros_like(aim)) for t in cell.times]
    for t in cell.times:
        where = grid(HALF_WIDTH, dict(cell.extra)["density_points"])
        density = flow.log_prob(where, t).exp()
        frames.append(_frame(cell, "density", t, where, torch.stack([density, torch.zeros_like(density)], 1)))
        x = grid(0.85 * HALF_WIDTH, cell.samples)
        frames.append(_frame(cell, "ideal", t, x, reference.ideal_gradient(flow, loss, x, t).gradient))
        for setting in cell.settings:
            gradient = ESTIMATORS[setting.estimator](flow, loss, x, t, **dict(setting.options)).gradient
            frames.append(_frame(cell, label(setting), t, x, gradient))
    return pd.concat(frames, ignore_index=True)


def _frame(cell: Cell, kind: str, t: float, x: Tensor, v: Tensor) -> pd.DataFrame:
    columns = {"x0": x[:, 0], "x1": x[:, 1], "v0": v[:, 0], "v1": v[:, 1]}
    return pd.DataFrame({"problem": cell.problem, "path": cell.path, "kind": kind, "t": t} | columns)
