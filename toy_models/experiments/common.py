"""What the experiments share: the zoo as the factory, error measurement as the measure, and slopes from a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.experiment import Cell
from analysis.orders import fit_order
from analysis.settings import Options, Variant

# Errors below this multiple of the reference's own bound (itself rarely attained) are not used in fits.
ABOVE_REFERENCE = 100.0


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


def errors_only(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the relative error."""
    return table[table["metric"] == "relative_error"]


def slopes(table: pd.DataFrame, by: Sequence[str], h: str, points: int) -> pd.DataFrame:
    """Fit the order of the median relative error in column ``h`` for each group; a fit that fails says why."""
    rows = []
    for key, group in errors_only(table).groupby(list(by), sort=True, dropna=False):
        row: dict[str, Any] = dict(zip(by, key, strict=True))
        floor = ABOVE_REFERENCE * group["reference_bound"].to_numpy(float)
        try:
            row |= vars(fit_order(group[h], group["value"], floor=floor, points=points)) | {"status": "ok"}
        except ValueError as error:
            row |= {"status": str(error)}
        rows.append(row)
    return pd.DataFrame(rows)
