"""What a cell measures of images restored by controls: SGD and Adam are searched separately.

SGD, which FlowGrad and OC-Flow take, wants rates that are a hundred times smaller than Adam's. In one search of few
trials for both it was hardly tried where it works, and greedy fitted twenty times worse than with it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.experiment import Cell
from analysis.fitted_search import FittedSearch
from analysis.guidance.regimes import Regime
from analysis.guidance.tuning import Range
from analysis.measurements import MeasuredBatch
from analysis.search import Search, Tried
from real_models.restoration import methods
from real_models.restoration.measure import AIMS, batches, flow_of, metrics
from real_models.restoration.measure import _at as at_budget

RATES = {"sgd": Range(1e-5, 0.3), "adam": Range(3e-3, 10.0)}


def searched(name: str) -> dict[str, Regime]:
    """Return the regime of controls by optimiser."""
    regime, _ = methods.chosen("controls", name)
    weights = {"weight": methods.WEIGHTS}
    spaces = {key: {"optimiser": (key,), "learning_rate": rates, **weights} for key, rates in RATES.items()}
    return {key: replace(regime, space=space) for key, space in spaces.items()}


def measure(cell: Cell) -> pd.DataFrame:
    """Return a row per budget, aim, image and metric, of the best that either optimiser has within each budget."""
    tuning, reported = batches(cell)
    extra, name = cell.extra_dict, cell.variants[0].estimator
    place = cell.columns() | {"truth": "clean image", "estimator": name, "arithmetic": "float32, bfloat16 inside"}
    place |= {key: extra[key] for key in ("regime", "operator", "noise")}
    kind = FittedSearch if name == "adaptive" else Search  # its cost depends on the state
    flow, (_, choice), regimes = flow_of(cell), methods.chosen("controls", name), searched(name)
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
