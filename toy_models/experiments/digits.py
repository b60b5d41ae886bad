"""Errors against time on the mixture fitted to real handwritten digits, d = 64."""

from __future__ import annotations

from analysis.experiment import Cell
from analysis.settings import Options, Variant
from toy_models.cells import error_cell

SETTINGS = (
    Variant.of("greedy"),
    Variant.of("lookahead", solver="midpoint", steps=1, horizon_fraction=0.5),
    Variant.of("lookahead", solver="midpoint", steps=4, horizon_fraction=0.9),
    Variant.of("end_to_end", solver="midpoint", steps=4),
    Variant.of("end_to_end", solver="midpoint", steps=16),
)


def cells(options: Options) -> list[Cell]:
    """Return the cell of error curves."""
    times = [0.1, 0.5, 0.9] if options.quick else [0.02, 0.05, *(k / 10 for k in range(1, 10)), 0.95, 0.98]
    return [error_cell(options, "digits", "condot", times, 8 if options.quick else 24, SETTINGS)]
