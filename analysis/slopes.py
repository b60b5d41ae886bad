"""Orders fitted to the errors in a tidy table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.orders import fit_order
from analysis.tables import errors_only

# Errors below this multiple of the reference's own bound (itself rarely attained) are not used in fits.
ABOVE_REFERENCE = 100.0


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
