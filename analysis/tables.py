"""Rows of tidy tables: those with given values, and those of the relative error.

This module never imports torch, so that figures can use it.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

FACTS = "_facts"
"""The end of the names of tables that hold, in one row, the numbers that captions state."""


def only(table: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """Select the rows whose columns have these values, in their order.

    Parameters
    ----------
    table : a tidy table
    **values : column=value; None selects rows with a missing value; a list, tuple or set selects rows with one of its
        values

    Returns
    -------
    DataFrame
        The selected rows.

    Raises
    ------
    ValueError
        If the table has no such column.
    """
    if unknown := [column for column in values if column not in table]:
        raise ValueError(f"column {unknown[0]!r} is not in the table, whose columns are {', '.join(table.columns)}")
    keep = pd.Series(True, index=table.index)
    for column, value in values.items():
        if value is None:
            keep &= table[column].isna()
        elif isinstance(value, list | tuple | set | frozenset):
            missing = table[column].isna() & (None in value)
            keep &= table[column].isin([v for v in value if v is not None]) | missing
        else:
            keep &= table[column] == value
    return table[keep]


def errors_only(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the relative error."""
    return only(table, metric="relative_error")
