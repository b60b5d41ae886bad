"""Peak bytes and evaluations of the four ways to differentiate one solve, over steps."""

from __future__ import annotations

from analysis.experiment import Cell
from analysis.settings import Options, Variant
from analysis.solvers.checkpointing import STRATEGIES
from toy_models.cells import error_cell


def cells(options: Options) -> list[Cell]:
    """Return one cell, whose states are large enough (d = 64) to outweigh the solver's coefficients."""
    steps = [2**k for k in range(2, 6 if options.quick else 9)]
    settings = [
        Variant.of("end_to_end", solver="midpoint", steps=n, memory=way, **({"slots": 4} if way == "recursive" else {}))
        for n in steps
        for way in STRATEGIES
    ]
    samples = 8 if options.quick else 32
    return [error_cell(options, "digits", "condot", [0.2], samples, settings, track_memory=True)]
