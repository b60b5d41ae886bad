"""What a cell measures of images restored from an optimised source by an estimator whose cost depends on the state."""

from __future__ import annotations

import pandas as pd

from analysis.experiment import Cell
from analysis.fitted_search import FittedSearch
from real_models.restoration import methods
from real_models.restoration.measure import AIMS, batches, flow_of, metrics
from real_models.restoration.measure import _searched as searched


def measure(cell: Cell) -> pd.DataFrame:
    """Return a row per budget, aim, image and metric, as ``measure.measure_source`` does of other estimators."""
    tuning, reported = batches(cell)
    extra, name = cell.extra_dict, cell.variants[0].estimator
    place = cell.columns() | {"truth": "clean image", "estimator": name, "arithmetic": "float32, bfloat16 inside"}
    place |= {key: extra[key] for key in ("regime", "operator", "noise")}
    regime, estimator = methods.chosen_source(extra["regime"], name)
    search = FittedSearch(flow_of(cell), regime, estimator, tuning, metrics, AIMS, cell.seed)
    return pd.DataFrame([place | row for row in searched(search, reported, extra)])
