"""Lookahead's error over (steps, horizon), and the best horizon for each number of steps."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.experiment import Cell, Options, Setting
from toy_models.experiments.common import error_cell, errors_only

SOLVERS = ("euler", "midpoint")


def cells(options: Options) -> list[Cell]:
    """Return one cell per problem with the whole grid of steps and horizons; horizon 0 is greedy, 1 end-to-end."""
    steps = [2**k for k in range(5 if options.quick else 7)]
    horizons = [round(float(f), 6) for f in np.linspace(0, 1, 9 if options.quick else 17)]
    settings = [
        Setting.of("lookahead", solver=solver, steps=n, horizon_fraction=f)
        for solver in SOLVERS
        for n in steps
        for f in horizons
    ]
    problems = ("overlapping",) if options.quick else ("overlapping", "ring8", "digits")
    samples = 16 if options.quick else 64
    return [error_cell(options, problem, "condot", [0.2], samples, settings) for problem in problems]


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Select the horizon with the least median error for each problem, solver and number of steps."""
    errors = errors_only(table).reset_index(drop=True)
    best = errors.groupby(["problem", "solver", "steps"])["value"].idxmin()
    return {"best": errors.loc[best].reset_index(drop=True)}
