"""Lookahead's error over (steps, horizon), and the best horizon for each number of steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from analysis import solvers
from analysis.errors import METRICS, summary
from analysis.experiment import Cell, Draw, draw
from analysis.gradients import lookahead_surface
from analysis.settings import Options
from analysis.tables import errors_only, only
from toy_models.cells import error_cell

SUITE = "theory"
SOLVERS = ("euler", "midpoint")


def cells(options: Options) -> list[Cell]:
    """Return one cell per problem with the whole grid of steps and horizons; horizon 0 is greedy, 1 end-to-end."""
    steps = [2**k for k in range(5 if options.quick else 7)]
    horizons = [round(float(f), 6) for f in np.linspace(0, 1, 9 if options.quick else 17)]
    problems = ("overlapping",) if options.quick else ("overlapping", "ring8", "digits")
    found = [error_cell(options, p, "condot", [0.2], 16 if options.quick else 64, ()) for p in problems]
    grid = (("steps", tuple(steps)), ("horizons", tuple(horizons)))
    return [replace(c, measure="toy_models.experiments.lookahead_surface:measure", extra=grid) for c in found]


def measure(cell: Cell) -> pd.DataFrame:
    """Return one row per solver, steps, horizon (as a fraction of 1 - t) and metric, from one surface per solver."""
    return surface_rows(cell, draw(cell))


def surface_rows(cell: Cell, drawn: Draw) -> pd.DataFrame:
    """Return the rows of a cell whose states and references are drawn."""
    grid = dict(cell.extra)
    (t,), steps, fractions = cell.times, grid["steps"], grid["horizons"]
    times = [t + f * (1 - t) if f < 1 else 1.0 for f in fractions]
    x = drawn.x.to(cell.device, drawn.subject.flow.dtype or torch.float64)
    rows = []
    for solver in SOLVERS:
        surface = lookahead_surface(drawn.subject.flow, drawn.loss, x, t, steps, times, solver=solver)
        for (i, n), (j, f) in ((a, b) for a in enumerate(steps) for b in enumerate(fractions)):
            spent = n * solvers.SOLVERS[solver].evaluations * (f > 0) + (f < 1)
            named = {"estimator": "lookahead", "solver": solver, "steps": n, "horizon": f, "t": t}
            gradient = surface.gradient[i, j].double().cpu()
            for metric, compare in METRICS.items():
                row = drawn.rows | named | {"evaluations": spent, "vjps": spent, "metric": metric}
                rows.append(row | summary(compare(gradient, drawn.reference.gradient)))
    return pd.DataFrame(rows)


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Select the horizon with the least median error for each problem, solver and number of steps."""
    errors = errors_only(table).reset_index(drop=True)
    best = errors.groupby(["problem", "solver", "steps"])["value"].idxmin()
    best_rows = errors.loc[best].reset_index(drop=True)
    return {"best": best_rows, "facts": facts(best_rows)}


def facts(best: pd.DataFrame) -> pd.DataFrame:
    """Count, by solver, for how many step counts a horizon short of the end is best."""
    short = best[best["horizon"] < 1]
    row: dict[str, Any] = {"problems": best["problem"].nunique(), "stops": "some" if len(short) else "none"}
    for solver in SOLVERS:
        row |= {f"{solver}_short": len(only(short, solver=solver)), f"{solver}_all": len(only(best, solver=solver))}
    if len(short):
        row |= {"least": short["horizon"].min(), "most": short["horizon"].max()}
    return pd.DataFrame([row])
