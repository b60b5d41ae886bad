"""What a cell of ``control_mixtures`` measures: controls by one estimator, of three optimisers searched separately."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.experiment import Cell
from analysis.fitted_search import FittedSearch
from analysis.guidance.regimes import REGIMES, gradient_in
from analysis.guidance.tuning import Range
from analysis.search import Search
from toy_models.experiments.regime_outcomes import AIMS, ESTIMATORS, batches, metrics
from toy_models.experiments.source_mixtures import _over_budgets as over_budgets

LINE_SEARCH = "lbfgs_line_search"
RATES = {"sgd": Range(2e-4, 1.0), "adam": Range(3e-3, 10.0), LINE_SEARCH: Range(3e-3, 10.0)}
PRICES = (0.0, 0.1, 1.0, 10.0)  # of the controls' squared length
SEARCHED = {
    name: replace(
        REGIMES["controls"],
        space={"learning_rate": rates, "optimiser": (name,), "weight": PRICES},
        unscaled=("optimiser", (LINE_SEARCH,)),  # a line search finds how long a move is
    )
    for name, rates in RATES.items()
}


def measure(cell: Cell) -> pd.DataFrame:
    """Return a row per budget, aim, metric and measurement."""
    flow, tuning, reported = batches(cell)
    extra, estimator = cell.extra_dict, cell.variants[0].estimator
    kind = FittedSearch if estimator == "adaptive" else Search  # adaptive's cost depends on the state
    choice = gradient_in("controls", estimator, ESTIMATORS)
    searches = [kind(flow, one, choice, tuning, metrics, AIMS, cell.seed) for one in SEARCHED.values()]
    place = cell.columns() | {"truth": "exact", "estimator": estimator, "samples": reported.members}
    place |= {name: extra[name] for name in ("regime", "operator", "noise")}
    return pd.DataFrame([place | at_end(row) for row in over_budgets(searches, reported, extra)])


def at_end(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row that says whether its choice lies at an end of the range of its own optimiser."""
    if "chosen" not in row:
        return row
    trial = json.loads(row["chosen"])
    return row | {"at_end_of_range": SEARCHED[trial["optimiser"]].near_end(trial)}
