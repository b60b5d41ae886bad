"""Rows of tidy tables: those with given values, those of the relative error, and the orders fitted to them.

This module never imports torch, so that figures can use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.orders import fit_order

# Errors below this multiple of the reference's own bound (itself rarely attained) are not used in fits.
ABOVE_REFERENCE = 100.0


def only(table: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """Return the rows whose columns have these values, in their order.

    Parameters
    ----------
    table : a tidy table
    **values : column=value; None selects the rows whose value is missing, a list, tuple or set those with one of them

    Raises
    ------
    ValueError
        Where the table has no such column.
    """
    if unknown := [column for column in values if column not in table]:
        raise ValueError(f"column {unknown[0]!r} is not in the table, whose columns are {', '.join(table.columns)}")
    keep = pd.Series(True, index=table.index)
    for column, value in values.items():
        if value is None:
            keep &= table[column].isna()
        elif isinstance(value, list | tuple | set | frozenset):
            keep &= table[column].isin(list(value))
        else:
            keep &= table[column] == value
    return table[keep]


def errors_only(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the relative error."""
    return only(table, metric="relative_error")


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
