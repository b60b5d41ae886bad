"""D6 on any flow: two terms fitted to lookahead's errors over steps and horizons, and the best horizon.

A table holds one row per solver, number of steps and horizon: ``problem``, ``path``, ``solver``, ``steps``,
``horizon`` (as a fraction of 1 - t), ``t``, ``zeta`` at the horizon, ``metric`` and ``value``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from analysis.bounds.two_term import FORMS, TwoTerm, fit_two_term
from analysis.claims.cases import deterministic_case
from analysis.claims.ledger import BOOTSTRAP, PRINTED, READING, Case
from analysis.intervals import bootstrap
from analysis.paths import PATHS, AffinePath
from analysis.solvers import SOLVERS
from analysis.tables import errors_only

KEYS = ["problem", "path", "solver"]
RULE = "interval"  # the form whose horizons are used; figures compare it with the others
FITTED_STEPS = 8  # fits see step counts up to this one, and predict the rest
LARGEST_ZETA = 1.0  # fits see horizons up to this zeta, where its square can be a leading term
FLAT = 1.05  # horizons within this factor of the least error count as equally good
RESAMPLES = 2000
HALF = 0.5  # a rule for the horizon must win at least this share of what there is to win
TWO = 2.0  # "~" read as: within a factor of two
READINGS = {
    "printed": (PRINTED, "as printed: within a factor of two, and its best horizon wins half of what there is to win"),
    "interval": (READING, "the same with B growing as (s - t)^(p + 1), on step counts like those it was fitted to"),
}


def with_zeta(table: pd.DataFrame, paths: Mapping[str, Callable[[], AffinePath]] = PATHS) -> pd.DataFrame:
    """Return the rows with ``zeta`` at their horizon in a new column; ``paths`` maps names to paths."""
    places = zip(table["path"], table["horizon"], strict=True)
    return table.assign(zeta=[float(paths[path]().zeta(horizon)) for path, horizon in places])


def two_term_tables(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Fit every form to the small step counts, and compare the predicted best horizons with measured ones."""
    fits, curves, horizons, budgets = [], [], [], []
    for key, group in errors_only(table).groupby(KEYS, sort=False):
        named = dict(zip(KEYS, key, strict=True))
        budgets += [named | row for row in _budget_rows(group)]
        for form in FORMS:
            fit = _fit(group, form)
            fits.append(named | _fit_columns(fit) | {"held_out_factor": _held_out_factor(group, fit)})
            curves.append(_with_model(group, fit))
            horizons += [named | {"form": form} | row for row in _horizon_rows(group, fit)]
    frames = {"fits": fits, "predicted": horizons, "budgets": budgets}
    return {name: pd.DataFrame(rows) for name, rows in frames.items()} | {"curves": pd.concat(curves)}


def _fit(group: pd.DataFrame, form: str) -> TwoTerm:
    """Fit a form to one solver's rows with few steps and small zeta."""
    rows = group[(group["steps"] <= FITTED_STEPS) & (group["zeta"] <= LARGEST_ZETA)]
    steps, zeta, fraction, error = (rows[name].to_numpy(float) for name in ("steps", "zeta", "fraction", "value"))
    return fit_two_term(form, steps, zeta, fraction, error, SOLVERS[str(group["solver"].iloc[0])].order)


def _fit_columns(fit: TwoTerm) -> dict[str, Any]:
    """Return a fit as the columns of a row: A and B with their intervals."""
    row = {k: v for k, v in asdict(fit).items() if k not in ("projection", "solver")}
    for name, values in (("A", fit.projection), ("B", fit.solver)):
        row |= dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
    return row


def _with_model(group: pd.DataFrame, fit: TwoTerm) -> pd.DataFrame:
    """Return the rows with zeta small enough for a fit, and the fitted errors in the column ``model``."""
    rows = group[group["zeta"] <= LARGEST_ZETA]
    model = fit.error(*(rows[name].to_numpy(float) for name in ("steps", "zeta", "fraction")))
    return rows[[*KEYS, "steps", "fraction", "value"]].assign(form=fit.form, model=model)


def _held_out_factor(group: pd.DataFrame, fit: TwoTerm) -> float:
    """Return the factor by which a fit is off (root mean square of logs) on step counts outside the fit."""
    rows = _with_model(group[group["steps"] > FITTED_STEPS], fit)
    return float(np.exp(np.sqrt(np.mean(np.log(rows["model"] / rows["value"]) ** 2))))


def _horizon_rows(group: pd.DataFrame, fit: TwoTerm) -> Iterator[dict[str, Any]]:
    """Yield one row per step count: the predicted and the measured best fraction, and the error at each of them."""
    for steps, rows in group.groupby("steps"):
        rows = rows.sort_values("fraction").reset_index(drop=True)
        chosen = fit.best_horizon(int(steps), rows["zeta"].to_numpy(), rows["fraction"].to_numpy())
        least = rows["value"].min()
        good = rows[rows["value"] <= FLAT * least]["fraction"]
        yield {
            "steps": steps,
            "held_out": steps > FITTED_STEPS,
            "predicted": rows["fraction"][chosen],
            "measured": rows["fraction"][rows["value"].idxmin()],
            "good_low": good.min(),
            "good_high": good.max(),
            "regret": rows["value"][chosen] / least,
            "regret_of_1": rows["value"].iloc[-1] / least,
        }


def _budget_rows(group: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Find, for each budget of evaluations, the least errors short of the end and at the end, and the prediction.

    A horizon short of 1 costs one evaluation more than the end. A budget counts if a solve to 1 fills it, so that one
    more step would exceed it.

    Yields
    ------
    dict
        One row per budget.
    """
    stages = SOLVERS[str(group["solver"].iloc[0])].evaluations
    ends = group[group["fraction"] == 1]
    fit = _fit(group, RULE)
    horizons = group[group["fraction"] > 0].drop_duplicates("fraction")
    zeta, fraction = horizons["zeta"].to_numpy(), horizons["fraction"].to_numpy()
    for budget, rows in group[(group["fraction"] > 0) & (group["fraction"] < 1)].groupby("evaluations"):
        full = ends[(ends["evaluations"] <= budget) & (ends["evaluations"] > budget - stages)]
        if len(full):
            best = rows.loc[rows["value"].idxmin()]
            row = {"budget": budget, "short": best["value"], "fraction": best["fraction"], "end": full["value"].min()}
            _, chosen = fit.best_within(int(budget), stages, zeta, fraction)
            yield row | {"ratio": row["end"] / row["short"], "predicted": fraction[chosen]}


def two_term_cases(rows: pd.DataFrame, seed: int) -> Iterator[Case]:
    """Compare both forms, fitted at few steps, with errors at more, and their best horizons with the least error."""
    tables = two_term_tables(rows)
    for form, (kind, reading) in READINGS.items():
        fits, horizons = (tables[name][tables[name]["form"] == form] for name in ("fits", "predicted"))
        for _, fit in fits.iterrows():
            case = f"misfit on more steps, {fit['solver']}, {fit['problem']}, {fit['path']}"
            yield deterministic_case(kind, reading, case, fit["held_out_factor"], TWO)
        yield _share_won_case(kind, reading, horizons[~horizons["held_out"]], seed)
        if kind == READING:
            unseen = horizons[horizons["held_out"]]
            yield _share_won_case(kind, f"{reading}; on steps that no fit has seen", unseen, seed)


def _share_won_case(kind: str, reading: str, horizons: pd.DataFrame, seed: int) -> Case:
    interval = share_won(horizons["regret"].to_numpy(), horizons["regret_of_1"].to_numpy(), seed)
    case = f"share won by the predicted horizon, {len(horizons)} step counts"
    return Case(kind, reading, case, *interval, HALF, "at least", interval_from=BOOTSTRAP)


def share_won(regret: np.ndarray, regret_of_end: np.ndarray, seed: int) -> tuple[float, float, float]:
    """Compute the share of log(error at the end / least error) that a rule wins, with a 95 % bootstrap interval.

    ``regret`` (N,) is the error at the rule's horizon over the least one, ``regret_of_end`` (N,) that at s = 1. The
    share of nothing is 0, so that resamples with too few step counts decide nothing.

    Returns
    -------
    tuple
        The share, and the ends of its interval.
    """

    def share(pairs: np.ndarray) -> np.ndarray:
        sums = pairs.sum(1)
        lost, available = sums[:, :1], sums[:, 1:]
        return 1 - np.divide(lost, available, out=np.ones_like(lost), where=available > 0)

    logs = np.log(np.stack([regret, regret_of_end], axis=1))
    value, low, high = (float(v[0]) for v in bootstrap(share, logs, seed=seed, resamples=RESAMPLES))
    return value, low, high
