"""What a cell measures of images restored from an optimised source or by controls: optimisers are searched separately.

Their good rates differ by decades: SGD, which FlowGrad and OC-Flow take for controls, wants rates that are a hundred
times smaller than Adam's, and L-BFGS with a line search only takes a first step of that length. In one search of few
trials for all, an optimiser is hardly tried where it works.

The time from which a source is optimised is no option: "source" starts from t = 0, as D-Flow does, and "source_late"
from 0.6. With a fixed rate L-BFGS lost one to five of eight images, so that it has a line search.
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
from analysis.guidance.dial import Choice
from analysis.guidance.regimes import Regime
from analysis.guidance.tuning import Range
from analysis.measurements import MeasuredBatch
from analysis.search import Search, Tried
from real_models.restoration import methods
from real_models.restoration.measure import AIMS, batches, flow_of, metrics
from real_models.restoration.measure import _at as at_budget

STARTS = {"source": 0.0, "source_late": 0.6}  # times of the optimised state
LINE_SEARCH = "lbfgs_line_search"
WEIGHTS = (0.0, 0.1, 1.0, 10.0, 100.0, 1000.0)  # of the source's prior, and of the controls' squared length
SOURCE = {"adam": Range(0.01, 10.0), LINE_SEARCH: Range(0.01, 100.0)}
CONTROLS = {"sgd": Range(1e-5, 0.3), "adam": Range(3e-3, 10.0)}


def chosen(regime: str, name: str) -> tuple[dict[str, Regime], Choice]:
    """Return a source of ``STARTS`` or controls by optimiser, each with its own rates, and an estimator in it."""
    start = {"t": STARTS[regime]} if regime in STARTS else {}
    known, estimator = methods.chosen("source" if start else regime, name)
    known = replace(known, options={**known.options, **start}, unscaled=("optimiser", (LINE_SEARCH,)))
    ranges, weight = (SOURCE, "prior") if start else (CONTROLS, "weight")
    return {key: replace(known, space=_space(key, rates, weight)) for key, rates in ranges.items()}, estimator


def _space(optimiser: str, rates: Range, weight: str) -> dict[str, Sequence[Any] | Range]:
    return {"optimiser": (optimiser,), "learning_rate": rates, weight: WEIGHTS}


def measure(cell: Cell) -> pd.DataFrame:
    """Return a row per budget, aim, image and metric, of the best that any optimiser has within each budget."""
    tuning, reported = batches(cell)
    extra, name = cell.extra_dict, cell.variants[0].estimator
    place = cell.columns() | {"truth": "clean image", "estimator": name, "arithmetic": "float32, bfloat16 inside"}
    place |= {key: extra[key] for key in ("regime", "operator", "noise")}
    kind = FittedSearch if name == "adaptive" else Search  # its cost depends on the state
    flow, (regimes, choice) = flow_of(cell), chosen(extra["regime"], name)
    searches = [kind(flow, one, choice, tuning, metrics, AIMS, cell.seed) for one in regimes.values()]
    return pd.DataFrame([place | at_end(row, regimes) for row in _over_budgets(searches, reported, extra)])


def _over_budgets(
    searches: list[Search[MeasuredBatch]], reported: MeasuredBatch, extra: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    known: list[list[Tried]] = [[] for _ in searches]
    for budget in extra["budgets"]:
        for some, search in zip(known, searches, strict=True):
            some += search.grown(some, extra["trials"], extra["kept"], budget)
        yield from at_budget(searches[0], [*itertools.chain(*known)], budget, reported)


def at_end(row: dict[str, Any], regimes: Mapping[str, Regime]) -> dict[str, Any]:
    """Return a row that says whether its choice lies at an end of the range of its own optimiser."""
    if "chosen" not in row:
        return row
    trial = json.loads(row["chosen"])
    return row | {"at_end_of_range": regimes[trial["optimiser"]].near_end(trial)}
