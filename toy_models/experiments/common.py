"""What the experiments share: the zoo as the factory, and error measurement as the measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analysis.experiment import Cell
from analysis.settings import Options, Variant


def error_cell(
    options: Options,
    problem: str,
    path: str,
    times: Sequence[float],
    samples: int,
    settings: Sequence[Variant],
    **fields: Any,
) -> Cell:
    """Return the cell that measures settings on a zoo problem against its ideal gradient."""
    return Cell(
        measure="analysis.experiment:measure_errors",
        factory="toy_models.problems.zoo:subject",
        problem=problem,
        path=path,
        times=tuple(float(t) for t in times),
        samples=samples,
        settings=tuple(settings),
        seed=options.seed,
        dtype=options.dtype,
        device=options.device,
        **fields,
    )


def label(setting: Variant) -> str:
    """Return the name a figure gives a setting."""
    steps = dict(setting.options).get("steps")
    if steps is None:
        return setting.estimator
    return f"{setting.estimator}, {steps} step{'s' if steps > 1 else ''}"
