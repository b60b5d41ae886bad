"""What a cell of ``regimes`` measures: one estimator in one regime on one operator, its options searched over budgets.

A regime has a few optimisers, or rules of how long a step is. Each is searched separately, with as many trials as the
others: their good rates differ by decades, and what is best for few moves may not be for many, so that one search
for all would miss the one that suits a gradient.

The time from which a source is optimised is no option: by misfit a later one is always the better (``option_lists``),
as the flow there binds the sample less. "source" starts from t = 0, as D-Flow does, and "source_late" from 0.6: from
later on every gradient's samples are farther from the posterior. "source_own" has the same late start, and its samples
are the estimator's own endpoints: at t = 0 greedy's would be the data's mean, whatever the state.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.experiment import Cell
from analysis.fitted_search import FittedSearch
from analysis.guidance.regimes import REGIMES, Regime, gradient_in
from analysis.guidance.tuning import Range
from analysis.measurements import MeasuredBatch
from analysis.search import Search, Tried
from analysis.settings import DTYPES
from toy_models.experiments.regime_outcomes import AIMS, ESTIMATORS, at_budget, batches, metrics
from toy_models.mixtures.low_rank import LowRankMixtureFlow
from toy_models.mixtures.remembered import RememberedLowRankFlow

LINE_SEARCH = "lbfgs_line_search"  # finds how long a move is
OPTIMISERS = ("adam", LINE_SEARCH)
WEIGHTS = (0.0, 0.1, 1.0, 10.0, 100.0)  # of the source's prior, and of the controls' squared length
SOURCE = replace(
    REGIMES["source"],
    options={**REGIMES["source"].options, "t": 0.0},
    space={"learning_rate": REGIMES["source"].space["learning_rate"], "prior": WEIGHTS},
    unscaled=("optimiser", (LINE_SEARCH,)),
)
LATE = {"t": 0.6}
RATES = {"sgd": Range(2e-4, 1.0), "adam": Range(3e-3, 10.0), LINE_SEARCH: Range(3e-3, 10.0)}  # of controls
CONTROLS = replace(REGIMES["controls"], unscaled=("optimiser", (LINE_SEARCH,)))


def separate(regime: Regime, option: str, values: Sequence[str]) -> dict[str, Regime]:
    """Return the regime with each value of an option alone."""
    return {value: replace(regime, space={**regime.space, option: (value,)}) for value in values}


SEARCHED: dict[str, dict[str, Regime]] = {
    "guidance": separate(REGIMES["guidance"], "rule", ("dps", "likelihood", "normalised")),
    "steps": separate(REGIMES["steps"], "optimiser", ("adam", "normalised")),
    "source": separate(SOURCE, "optimiser", OPTIMISERS),
    "source_late": separate(replace(SOURCE, options={**SOURCE.options, **LATE}), "optimiser", OPTIMISERS),
    "source_own": separate(replace(SOURCE, options={**SOURCE.options, **LATE, "end": "own"}), "optimiser", OPTIMISERS),
    "controls": {
        name: replace(CONTROLS, space={"learning_rate": rates, "optimiser": (name,), "weight": WEIGHTS})
        for name, rates in RATES.items()
    },
}


def measure(cell: Cell) -> pd.DataFrame:
    """Return a row per budget, aim, metric and measurement."""
    flow, tuning, reported = batches(cell)
    if isinstance(flow, LowRankMixtureFlow):
        flow = RememberedLowRankFlow(flow.mixture, flow.path, DTYPES[cell.dtype])
        tuning, reported = (batch.start_on("cpu", flow.dtype) for batch in (tuning, reported))
    extra, estimator = cell.extra_dict, cell.variants[0].estimator
    kind = FittedSearch if estimator == "adaptive" else Search  # adaptive's cost depends on the state
    choice, spaces = gradient_in(extra["regime"], estimator, ESTIMATORS), SEARCHED[extra["regime"]]
    searches = {name: kind(flow, one, choice, tuning, metrics, AIMS, cell.seed) for name, one in spaces.items()}
    place = cell.columns() | {"truth": "exact", "estimator": estimator, "samples": reported.members}
    place |= {name: extra[name] for name in ("regime", "operator", "noise")}
    return pd.DataFrame([place | row for row in over_budgets(searches, reported, extra)])


def over_budgets(
    searches: Mapping[str, Search[MeasuredBatch]], reported: MeasuredBatch, extra: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of all budgets, of the best that any search has tried within each.

    In each search ``trials`` are all over the ranges until a budget has paid for a few moves; then the ``kept`` best
    run again at each larger budget (successive halving, Jamieson & Talwalkar, arXiv 1502.07943), half as many each
    time; and at each budget ``nearer`` run near the best by each aim.

    Yields
    ------
    dict
        A row per budget, aim, metric and measurement.
    """
    known: dict[str, list[Tried]] = {name: [] for name in searches}
    kept = dict.fromkeys(searches, extra["kept"])
    for budget in extra["budgets"]:
        for name, search in searches.items():
            more = search.grown(known[name], extra["trials"], kept[name], budget)
            kept[name] = max(1, kept[name] // 2) if known[name] else kept[name]
            known[name] += more
            for aim in AIMS if known[name] else ():
                known[name] += search.near(known[name], aim, extra["nearer"], budget)
        rows = at_budget(next(iter(searches.values())), [*itertools.chain(*known.values())], budget, reported)
        yield from (_at_own_end(row, searches) for row in rows)


def _at_own_end(row: dict[str, Any], searches: Mapping[str, Search[MeasuredBatch]]) -> dict[str, Any]:
    """Return a row that says whether its choice lies at an end of the range of the search that found it."""
    if "chosen" not in row:
        return row
    trial = json.loads(row["chosen"])
    (own,) = (name for name in searches if name in trial.values())
    return row | {"at_end_of_range": searches[own].regime.near_end(trial)}
