"""The best lookahead horizon for each number of steps: measured, and predicted from two terms fitted at few steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats

from analysis.claims.two_terms import FITTED_STEPS, RULE, two_term_tables, with_zeta
from analysis.errors import summary
from analysis.experiment import Cell, StateBatch, estimate, horizon_of, sample_states
from analysis.settings import Options, Variant
from analysis.tables import errors_only, only
from toy_models.cells import error_cell
from toy_models.experiments import lookahead_surface
from toy_models.problems.zoo import ZOO_PATHS

SUITE = "theory"
LATE = 0.9  # of 1 - t: here zeta is small and the projection's error has the direction that it vanishes in


def fractions(quick: bool) -> list[float]:
    """Return the horizons as fractions of 1 - t: evenly spaced, then ever closer to 1."""
    even = np.linspace(0, 1, 9 if quick else 17)
    near = 1 - np.geomspace(2**-9, 2**-4, 6 if quick else 11)
    return sorted({round(float(f), 6) for f in (*even, *near)})


def cells(options: Options) -> list[Cell]:
    """Return one cell per problem and path, with the whole grid of steps and horizons."""
    problems = ("product256",) if options.quick else ("product256", "overlapping", "ring8", "anisotropic", "digits")
    steps = (1, 2, 3, 4, 8, 16) if options.quick else (1, 2, 3, 4, 7, 8, 15, 16, 32, 64)
    extra = (("steps", steps), ("fractions", tuple(fractions(options.quick))))
    samples = 8 if options.quick else 32
    paths = ("condot",) if options.quick else ("condot", "cosine")
    pairs = [(problem, path) for path in paths for problem in problems]
    pairs = [pair for pair in pairs if pair != ("digits", "cosine")]  # as dear as all others together
    own: dict[str, Any] = {"measure": f"{__name__}:measure", "extra": extra}
    return [error_cell(options, problem, path, [0.2], samples, (), **own) for problem, path in pairs]


def measure(cell: Cell) -> pd.DataFrame:
    """Return the relative errors of the cell's surface, with zeta at every horizon, and the two errors' cosines."""
    batch = sample_states(cell)
    errors = errors_only(lookahead_surface.surface_rows(cell, batch)).assign(status="ok")
    return pd.concat([with_zeta(errors, ZOO_PATHS), pd.DataFrame(cosine_rows(cell, batch))], ignore_index=True)


def cosine_rows(cell: Cell, batch: StateBatch) -> Iterator[dict[str, Any]]:
    """Measure, for each solver, the cosine between the projection's error and the solver's: do they add or cancel?

    The projection's error is that of a fine solve to a late horizon, the solver's that of a coarse solve to 1.

    Yields
    ------
    dict
        a row per solver.
    """
    fine = Variant.of("lookahead", solver="rk4", steps=FITTED_STEPS, horizon_fraction=LATE)
    ahead = estimate(cell, batch, fine).gradient - batch.reference.gradient
    for solver in lookahead_surface.SOLVERS:
        coarse = Variant.of("end_to_end", solver=solver, steps=FITTED_STEPS)
        behind = estimate(cell, batch, coarse).gradient - batch.reference.gradient
        cosine = torch.nn.functional.cosine_similarity(ahead.flatten(1), behind.flatten(1))
        named = {"estimator": "lookahead", "solver": solver, "steps": FITTED_STEPS, "fraction": LATE}
        named["horizon"] = horizon_of(cell.times[0], LATE)
        yield batch.columns | named | {"t": cell.times[0], "metric": "error_cosine", "status": "ok"} | summary(cosine)


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Fit every form to the small step counts, and compare the best horizons it predicts with those measured."""
    tables = two_term_tables(table)
    return tables | {"regrets": regrets(tables["predicted"]), "facts": facts(tables)}


def regrets(predicted: pd.DataFrame) -> pd.DataFrame:
    """Return the error at predicted horizons over the least error: geometric means with two standard errors."""
    rows = []
    keys = ["form", "solver", "held_out"]
    for key, group in predicted.groupby(keys):
        logs = np.log(group["regret"])
        half = 2 * logs.std() / np.sqrt(len(logs)) if len(logs) > 1 else 0.0
        ends = {name: np.exp(logs.mean() + sign * half) for name, sign in (("low", -1), ("mean", 0), ("high", 1))}
        rows.append(dict(zip(keys, key, strict=True)) | ends)
    return pd.DataFrame(rows)


def facts(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Give each form's error, the cost of the rule's horizons and of the end, and how often stopping short pays."""
    row: dict[str, Any] = tables["fits"].groupby("form")["held_out_factor"].median().to_dict()
    rule = only(tables["predicted"], form=RULE)
    for name, unseen in (("few", False), ("many", True)):
        part = only(rule, held_out=unseen)
        row |= {name: stats.gmean(part["regret"]), f"{name}_end": stats.gmean(part["regret_of_1"])}
    budgets = tables["budgets"]
    return pd.DataFrame([row | {"wins": int((budgets["ratio"] > 1).sum()), "budgets": len(budgets)}])
