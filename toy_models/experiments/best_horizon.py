"""The best lookahead horizon for each number of steps: measured, and predicted from two terms fitted on few steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from analysis.bounds.two_term import FORMS, TwoTerm, fit_two_term
from analysis.errors import summary
from analysis.experiment import Cell, Draw, draw, estimate
from analysis.settings import Options, Variant
from analysis.solvers import SOLVERS
from analysis.tables import errors_only
from toy_models.cells import error_cell
from toy_models.experiments import lookahead_surface
from toy_models.problems.zoo import ZOO_PATHS

KEYS = ["problem", "path", "solver"]
RULE = "interval"  # the form whose horizons are used; figures compare it with the others
FITTED_STEPS = 8  # fits see step counts up to this one, and predict the rest
LARGEST_ZETA = 1.0  # fits see horizons up to this zeta, where its square can be a leading term
LATE = 0.9  # of 1 - t: here zeta is small and the projection's error has the direction that it vanishes in
FLAT = 1.05  # horizons within this factor of the least error count as equally good


def horizons(quick: bool) -> list[float]:
    """Return the horizons as fractions of 1 - t: even spacing, and closer and closer to 1."""
    even = np.linspace(0, 1, 9 if quick else 17)
    near = 1 - np.geomspace(2**-9, 2**-4, 6 if quick else 11)
    return sorted({round(float(f), 6) for f in (*even, *near)})


def cells(options: Options) -> list[Cell]:
    """Return one cell per problem and path, with the whole grid of steps and horizons."""
    problems = ("product256",) if options.quick else ("product256", "overlapping", "ring8", "anisotropic", "digits")
    steps = (1, 2, 3, 4, 8, 16) if options.quick else (1, 2, 3, 4, 7, 8, 15, 16, 32, 64)
    extra = (("steps", steps), ("horizons", tuple(horizons(options.quick))))
    samples = 8 if options.quick else 32
    paths = ("condot",) if options.quick else ("condot", "cosine")
    found = [error_cell(options, problem, path, [0.2], samples, ()) for path in paths for problem in problems]
    found = [c for c in found if (c.problem, c.path) != ("digits", "cosine")]  # as dear as all others together
    return [replace(c, measure="toy_models.experiments.best_horizon:measure", extra=extra) for c in found]


def measure(cell: Cell) -> pd.DataFrame:
    """Return the relative errors of the cell's surface, with zeta at every horizon, and the two errors' cosines."""
    drawn = draw(cell)
    errors = errors_only(lookahead_surface.surface_rows(cell, drawn)).assign(status="ok")
    return pd.concat([with_zeta(errors), pd.DataFrame(cosine_rows(cell, drawn))], ignore_index=True)


def cosine_rows(cell: Cell, drawn: Draw) -> Iterator[dict[str, Any]]:
    """Yield, per solver, the cosine between the projection's error and the solver's: do they add up, or cancel?

    The projection's error is that of a fine solve to a late horizon, the solver's that of a coarse solve to 1.
    """
    fine = Variant.of("lookahead", solver="rk4", steps=FITTED_STEPS, horizon_fraction=LATE)
    ahead = estimate(cell, drawn, fine).gradient - drawn.reference.gradient
    for solver in lookahead_surface.SOLVERS:
        coarse = Variant.of("end_to_end", solver=solver, steps=FITTED_STEPS)
        behind = estimate(cell, drawn, coarse).gradient - drawn.reference.gradient
        cosine = torch.nn.functional.cosine_similarity(ahead.flatten(1), behind.flatten(1))
        named = {"estimator": "lookahead", "solver": solver, "steps": FITTED_STEPS, "horizon": LATE}
        yield drawn.rows | named | {"t": cell.times[0], "metric": "error_cosine", "status": "ok"} | summary(cosine)


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Fit every form to the small step counts, and compare the best horizons it predicts with those measured."""
    fits, curves, best, budgets = [], [], [], []
    for key, group in errors_only(table).groupby(KEYS, sort=False):
        named = dict(zip(KEYS, key, strict=True))
        budgets += [named | row for row in at_equal_cost(group)]
        for form in FORMS:
            fit = fitted(group, form)
            fits.append(named | flat(fit) | {"held_out_factor": held_out(group, fit)})
            curves.append(modelled(group, fit))
            best += [named | {"form": form} | row for row in compared(group, fit)]
    frames = {"fits": fits, "predicted": best, "budgets": budgets}
    return {name: pd.DataFrame(rows) for name, rows in frames.items()} | {"curves": pd.concat(curves)}


def with_zeta(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with ``zeta`` at their horizon in the column of that name."""
    pairs = zip(table["path"], table["t"], table["horizon"], strict=True)
    return table.assign(zeta=[float(ZOO_PATHS[p]().zeta(min(t + f * (1 - t), 1.0))) for p, t, f in pairs])


def fitted(group: pd.DataFrame, form: str) -> TwoTerm:
    """Fit a form to one solver's rows with few steps and small zeta."""
    rows = group[(group["steps"] <= FITTED_STEPS) & (group["zeta"] <= LARGEST_ZETA)]
    steps, zeta, fraction, error = (rows[name].to_numpy(float) for name in ("steps", "zeta", "horizon", "value"))
    return fit_two_term(form, steps, zeta, fraction, error, SOLVERS[str(group["solver"].iloc[0])].order)


def flat(fit: TwoTerm) -> dict[str, Any]:
    """Return a fit as the columns of a row: A and B with their intervals."""
    row = {k: v for k, v in asdict(fit).items() if k not in ("projection", "solver")}
    for name, values in (("A", fit.projection), ("B", fit.solver)):
        row |= dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
    return row


def modelled(group: pd.DataFrame, fit: TwoTerm) -> pd.DataFrame:
    """Return the rows where zeta is small enough for a fit, with its errors in the column ``model``."""
    rows = group[group["zeta"] <= LARGEST_ZETA]
    model = fit.error(*(rows[name].to_numpy(float) for name in ("steps", "zeta", "horizon")))
    return rows[[*KEYS, "steps", "horizon", "value"]].assign(form=fit.form, model=model)


def held_out(group: pd.DataFrame, fit: TwoTerm) -> float:
    """Return the factor by which a fit is off (root mean square of logs) on step counts that it has not seen."""
    rows = modelled(group[group["steps"] > FITTED_STEPS], fit)
    return float(np.exp(np.sqrt(np.mean(np.log(rows["model"] / rows["value"]) ** 2))))


def compared(group: pd.DataFrame, fit: TwoTerm) -> Iterator[dict[str, Any]]:
    """Yield one row per step count: predicted and measured best horizon, and what each of them costs in error."""
    for steps, rows in group.groupby("steps"):
        rows = rows.sort_values("horizon").reset_index(drop=True)
        chosen = fit.best_horizon(int(steps), rows["zeta"].to_numpy(), rows["horizon"].to_numpy())
        least = rows["value"].min()
        good = rows[rows["value"] <= FLAT * least]["horizon"]
        yield {
            "steps": steps,
            "held_out": steps > FITTED_STEPS,
            "predicted": rows["horizon"][chosen],
            "measured": rows["horizon"][rows["value"].idxmin()],
            "good_low": good.min(),
            "good_high": good.max(),
            "regret": rows["value"][chosen] / least,
            "regret_of_1": rows["value"].iloc[-1] / least,
        }


def at_equal_cost(group: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield, per budget of evaluations, the least errors short of the end and at the end, and what is predicted.

    A horizon short of 1 costs one evaluation more than the end. A budget counts where a solve to 1 fills it: where one
    more step would exceed it.
    """
    stages = SOLVERS[str(group["solver"].iloc[0])].evaluations
    ends = group[group["horizon"] == 1]
    fit = fitted(group, RULE)
    among = group[group["horizon"] > 0].drop_duplicates("horizon")
    for budget, rows in group[(group["horizon"] > 0) & (group["horizon"] < 1)].groupby("evaluations"):
        full = ends[(ends["evaluations"] <= budget) & (ends["evaluations"] > budget - stages)]
        if len(full):
            best = rows.loc[rows["value"].idxmin()]
            row = {"budget": budget, "short": best["value"], "horizon": best["horizon"], "end": full["value"].min()}
            _, chosen = fit.best_within(int(budget), stages, among["zeta"].to_numpy(), among["horizon"].to_numpy())
            yield row | {"ratio": row["end"] / row["short"], "predicted": among["horizon"].iloc[chosen]}
