"""Lookahead's error over (steps, horizon), and the best horizon for each number of steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from analysis import solvers
from analysis.errors import METRICS, summary
from analysis.experiment import Cell, StateBatch, horizon_of, sample_states
from analysis.gradients import lookahead_surface
from analysis.settings import Options
from analysis.tables import errors_only, only
from toy_models.cells import error_cell

SUITE = "theory"
SOLVERS = ("euler", "midpoint")
SPEC: dict[str, dict[str, Any]] = {
    "quick": {"problems": ("overlapping",), "doublings": 5, "horizons": 9, "samples": 16},
    "full": {"problems": ("overlapping", "ring8", "digits"), "doublings": 7, "horizons": 17, "samples": 64},
}


def cells(options: Options) -> list[Cell]:
    """Return one cell per problem with all steps and horizons: fraction 0 of the way is greedy, 1 end-to-end."""
    spec = options.of(SPEC)
    fractions = tuple(round(float(f), 6) for f in np.linspace(0, 1, spec["horizons"]))
    grid = (("steps", tuple(2**k for k in range(spec["doublings"]))), ("fractions", fractions))
    own: dict[str, Any] = {"measure": f"{__name__}:measure", "extra": grid}
    return [error_cell(options, problem, "condot", [0.2], spec["samples"], (), **own) for problem in spec["problems"]]


def measure(cell: Cell) -> pd.DataFrame:
    """Return one row per solver, steps, horizon and metric, from one surface per solver."""
    return surface_rows(cell, sample_states(cell))


def surface_rows(cell: Cell, batch: StateBatch) -> pd.DataFrame:
    """Return the rows of a cell, given its states and their references."""
    grid = cell.extra_dict
    (t,), steps, fractions = cell.times, grid["steps"], grid["fractions"]
    horizons = [horizon_of(t, f) for f in fractions]
    x = batch.x.to(cell.device, batch.subject.flow.dtype or torch.float64)
    rows = []
    for solver in SOLVERS:
        surface = lookahead_surface(batch.subject.flow, batch.loss, x, t, steps, horizons, solver=solver)
        for (i, n), (j, f) in ((a, b) for a in enumerate(steps) for b in enumerate(fractions)):
            spent = n * solvers.SOLVERS[solver].evaluations * (f > 0) + (f < 1)
            named: dict[str, Any] = {"estimator": "lookahead", "solver": solver, "steps": n, "t": t}
            named |= {"horizon": horizons[j], "fraction": f, "evaluations": spent, "vjps": spent}
            gradient = surface.gradient[i, j].double().cpu()
            for metric, compare in METRICS.items():
                rows.append(
                    batch.columns | named | {"metric": metric} | summary(compare(gradient, batch.reference.gradient))
                )
    return pd.DataFrame(rows)


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Select the horizon with the least median error for each problem, solver and number of steps."""
    errors = errors_only(table).reset_index(drop=True)
    best = errors.groupby(["problem", "solver", "steps"])["value"].idxmin()
    best_rows = errors.loc[best].reset_index(drop=True)
    return {"best": best_rows, "facts": facts(best_rows)}


def facts(best: pd.DataFrame) -> pd.DataFrame:
    """Count, by solver, the step counts for which a horizon short of the end is best."""
    short = best[best["fraction"] < 1]
    row: dict[str, Any] = {"problems": best["problem"].nunique(), "stops": "some" if len(short) else "none"}
    for solver in SOLVERS:
        row |= {f"{solver}_short": len(only(short, solver=solver)), f"{solver}_all": len(only(best, solver=solver))}
    if len(short):
        row |= {"least": short["fraction"].min(), "most": short["fraction"].max()}
    return pd.DataFrame([row])
