"""What a cell of ``control_mixtures`` measures: controls by one estimator, of three optimisers searched separately."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from analysis.experiment import Cell
from analysis.fitted_search import FittedSearch
from analysis.guidance.regimes import REGIMES, gradient_in
from analysis.search import Search
from toy_models.experiments.regime_outcomes import AIMS, ESTIMATORS, batches, metrics
from toy_models.experiments.source_mixtures import _over_budgets as over_budgets

LINE_SEARCH = "lbfgs_line_search"
OPTIMISERS = ("sgd", "adam", LINE_SEARCH)
PRICES = (0.0, 0.1, 1.0, 10.0)  # of the controls' squared length
CONTROLS = replace(
    REGIMES["controls"],
    space={**REGIMES["controls"].space, "weight": PRICES},
    unscaled=("optimiser", (LINE_SEARCH,)),  # a line search finds how long a move is
)


def measure(cell: Cell) -> pd.DataFrame:
    """Return a row per budget, aim, metric and measurement."""
    flow, tuning, reported = batches(cell)
    extra, estimator = cell.extra_dict, cell.variants[0].estimator
    kind = FittedSearch if estimator == "adaptive" else Search  # adaptive's cost depends on the state
    spaces = [replace(CONTROLS, space={**CONTROLS.space, "optimiser": (name,)}) for name in OPTIMISERS]
    choice = gradient_in("controls", estimator, ESTIMATORS)
    searches = [kind(flow, one, choice, tuning, metrics, AIMS, cell.seed) for one in spaces]
    place = cell.columns() | {"truth": "exact", "estimator": estimator, "samples": reported.members}
    place |= {name: extra[name] for name in ("regime", "operator", "noise")}
    return pd.DataFrame([place | row for row in over_budgets(searches, reported, extra)])
