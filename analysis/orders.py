"""Signed orders: the slope of log error against log h, on a stated window, with a confidence interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEAST_POINTS = 3


@dataclass(frozen=True)
class OrderFit:
    """A slope d log(error) / d log(h): positive where the error vanishes with h, negative where it grows.

    ``low`` and ``high`` bound the 95 % confidence interval of the regression; ``h_min`` to ``h_max`` is the window of
    ``points`` values it was fitted on.
    """

    slope: float
    low: float
    high: float
    h_min: float
    h_max: float
    points: int


def fit_order(
    h: Sequence[float] | np.ndarray, error: Sequence[float] | np.ndarray, *, floor: float | np.ndarray, points: int = 5
) -> OrderFit:
    """Fit the order on the ``points`` smallest h whose error is finite and above ``floor``.

    The floor, one number or one per value, keeps round-off and the reference's own error out: give it a multiple of
    both. Raises ``ValueError``
    where fewer than three points are left, or h is not positive and distinct.
    """
    h, error = np.asarray(h, float), np.asarray(error, float)
    if h.ndim != 1 or h.shape != error.shape or not np.all(h > 0) or len(np.unique(h)) != len(h):
        raise ValueError("h and error must be 1-D of equal length, h positive and distinct")
    usable = np.isfinite(error) & (error > floor)
    window = np.argsort(np.where(usable, h, np.inf))[: min(points, usable.sum())]
    if len(window) < LEAST_POINTS:
        raise ValueError(
            f"error must exceed the floor (at least {np.min(floor):.3g}) at three values of h or more; {len(window)} do"
        )
    found = stats.linregress(np.log(h[window]), np.log(error[window]))
    half = float(stats.t.ppf(0.975, len(window) - 2) * found.stderr)
    slope = float(found.slope)
    return OrderFit(slope, slope - half, slope + half, float(h[window].min()), float(h[window].max()), len(window))
