"""Errors against time on the mixture fitted to real handwritten digits, d = 64."""

from __future__ import annotations

import pandas as pd

from analysis.experiment import Cell
from analysis.settings import Options, Variant
from analysis.tables import errors_only, only
from toy_models.cells import error_cell

SUITE = "theory"
VARIANTS = (
    Variant.of("greedy"),
    Variant.of("lookahead", solver="midpoint", steps=1, horizon_fraction=0.5),
    Variant.of("lookahead", solver="midpoint", steps=4, horizon_fraction=0.9),
    Variant.of("end_to_end", solver="midpoint", steps=4),
    Variant.of("end_to_end", solver="midpoint", steps=16),
)


def cells(options: Options) -> list[Cell]:
    """Return the cell of error curves."""
    times = [0.1, 0.9] if options.quick else [0.02, 0.05, *(k / 10 for k in range(1, 10)), 0.95, 0.98]
    return [error_cell(options, "digits", "condot", times, 4 if options.quick else 24, VARIANTS)]


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Give greedy's error at both ends of time, and, in the middle, greedy's and one lookahead step's."""
    errors = errors_only(table)
    greedy = only(errors, estimator="greedy").set_index("t")["value"]
    ahead = only(errors, estimator="lookahead", steps=1).set_index("t")["value"]
    first, last = greedy.index.min(), greedy.index.max()
    middle = min(greedy.index, key=lambda t: abs(t - 0.5))
    row = {"first_t": first, "first": greedy[first], "last_t": last, "last": greedy[last]}
    row |= {"middle_t": middle, "greedy": greedy[middle], "lookahead": ahead[middle]}
    return {"facts": pd.DataFrame([row])}
