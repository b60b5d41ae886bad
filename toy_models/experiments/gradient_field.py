"""Gradients as arrows on a two-dimensional mixture, over its density."""

from __future__ import annotations

from typing import Any

import numpy as np
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

SUITE = "theory"
TARGET = (0.0, 3.0)  # one of the eight modes
HALF_WIDTH = 4.2
VARIANTS = (
    Variant.of("greedy"),
    Variant.of("lookahead", solver="midpoint", steps=1, horizon_fraction=0.5),
    Variant.of("lookahead", solver="midpoint", steps=4, horizon_fraction=0.9),
)


def cells(options: Options) -> list[Cell]:
    """Return one cell; ``samples`` is the number of arrows along a side, even: the ring's centre is unstable."""
    own: dict[str, Any] = {"measure": f"{__name__}:measure"}
    own["extra"] = (("density_points", 30 if options.quick else 120),)
    times, side = ((0.2, 0.8), 6) if options.quick else ((0.2, 0.5, 0.8), 10)
    return [error_cell(options, "ring8", "condot", times, side, VARIANTS, **own)]


def grid(half_width: float, points: int) -> Tensor:
    """Return (points^2, 2) positions on a centred square."""
    line = torch.linspace(-half_width, half_width, points, dtype=torch.float64)
    return torch.cartesian_prod(line, line)


def measure(cell: Cell) -> pd.DataFrame:
    """Return rows (kind, t, x0, x1, v0, v1): p_t in v0 for "density", a place for "target", else gradients."""
    flow = resolve(cell.factory)(cell.problem, cell.path).reference_flow
    loss = HalfSquaredDistance(torch.tensor(TARGET, dtype=torch.float64))
    aim = loss.target[None]
    frames = [_frame(cell, "target", t, aim, torch.zeros_like(aim)) for t in cell.times]
    for t in cell.times:
        where = grid(HALF_WIDTH, cell.extra_dict["density_points"])
        density = flow.log_prob(where, t).exp()
        frames.append(_frame(cell, "density", t, where, torch.stack([density, torch.zeros_like(density)], 1)))
        x = grid(0.85 * HALF_WIDTH, cell.samples)
        frames.append(_frame(cell, "ideal", t, x, reference.ideal_gradient(flow, loss, x, t).gradient))
        for variant in cell.variants:
            gradient = ESTIMATORS[variant.estimator](flow, loss, x, t, **dict(variant.options)).gradient
            frames.append(_frame(cell, label(variant), t, x, gradient))
    return pd.concat(frames, ignore_index=True)


def _frame(cell: Cell, kind: str, t: float, x: Tensor, v: Tensor) -> pd.DataFrame:
    places = {"x0": x[:, 0], "x1": x[:, 1], "v0": v[:, 0], "v1": v[:, 1]}
    return pd.DataFrame(cell.columns() | {"kind": kind, "t": t} | places)


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the median angle over the grid between each gradient and the ideal one, at both ends of time."""
    angles = table[~table["kind"].isin(["density", "target"])].pivot(
        index=["t", "x0", "x1"], columns="kind", values=["v0", "v1"]
    )
    longest = label(VARIANTS[-1])
    row: dict[str, Any] = {"steps": dict(VARIANTS[-1].options)["steps"]}
    for when, t in (("early", table["t"].min()), ("late", table["t"].max())):
        row |= {f"{when}_t": t}
        row |= {
            f"{when}_{name}": _angle(angles.loc[t], kind)
            for name, kind in (("greedy", "greedy"), ("lookahead", longest))
        }
    return {"facts": pd.DataFrame([row])}


def _angle(vectors: pd.DataFrame, kind: str) -> float:
    """Return the median angle to the ideal gradient in degrees."""
    g, ideal = (vectors.xs(name, axis=1, level="kind").to_numpy(float) for name in (kind, "ideal"))
    cosine = (g * ideal).sum(1) / np.linalg.norm(g, axis=1) / np.linalg.norm(ideal, axis=1)
    return float(np.median(np.degrees(np.arccos(np.clip(cosine, -1, 1)))))
