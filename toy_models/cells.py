"""Cells that measure gradients on the problems of the zoo."""

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
    variants: Sequence[Variant],
    *,
    measure: str = "analysis.experiment:measure_errors",
    factory: str = "toy_models.problems.zoo:subject",
    **fields: Any,
) -> Cell:
    """Make the cell of a zoo problem at some times, by default one of gradients' errors against the ideal gradient.

    Parameters
    ----------
    problem, path : names of the zoo
    times : (T,), in [0, 1)
    samples : states per time
    variants : the estimators to measure
    measure, factory, **fields : other fields of ``analysis.experiment.Cell``

    Returns
    -------
    Cell
        With the sampling options of ``options``.
    """
    return Cell(
        measure=measure,
        factory=factory,
        problem=problem,
        path=path,
        times=tuple(float(t) for t in times),
        samples=samples,
        variants=tuple(variants),
        seed=options.seed,
        dtype=options.dtype,
        device=options.device,
        **fields,
    )
