"""Error against cost, for every registered estimator in every variant that it declares."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.experiment import Cell
from analysis.settings import Options
from analysis.tables import errors_only, only
from toy_models.cells import error_cell
from toy_models.experiments.common import variants

SUITE = "theory"


def cells(options: Options) -> list[Cell]:
    """Return one cell per problem, with all estimators in it."""
    problems = ("product256",) if options.quick else ("overlapping", "separated", "product256", "digits")
    times, samples = ([0.2], 16) if options.quick else ([0.2, 0.6], 64)
    return [
        error_cell(options, problem, "condot", times, samples, variants(options), track_memory=True)
        for problem in problems
    ]


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Select the Pareto front: the variants with less error than every variant of no more evaluations."""
    keys = ["problem", "t", "evaluations", "value", "steps"]  # of equals, the one that takes no steps comes first
    errors = errors_only(table).dropna(subset=["value"]).sort_values(keys, na_position="first")
    record = errors.groupby(["problem", "t"])["value"].cummin()
    earlier = record.groupby([errors["problem"], errors["t"]]).shift()
    front = errors[earlier.isna() | (errors["value"] < earlier)].reset_index(drop=True)
    return {"front": front, "facts": facts(front)}


def facts(front: pd.DataFrame) -> pd.DataFrame:
    """Give the methods with the most places on the fronts, and the number of fronts that greedy is on."""
    shares = front["estimator"].value_counts()
    row: dict[str, Any] = {"panels": len(front[["problem", "t"]].drop_duplicates()), "count": len(front)}
    row["greedy"] = len(only(front, estimator="greedy"))
    for place, (estimator, count) in zip(("first", "second"), shares.items(), strict=False):
        row |= {place: estimator, f"{place}_count": int(count)}
    return pd.DataFrame([row])
