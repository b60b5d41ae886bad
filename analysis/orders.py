"""Signed orders: the slope of log error against log h, on a stated window, with the interval of the line fit.

The errors are those of deterministic solves, or medians over samples, and carry no noise that differs from one h to the
next. The interval of the regression therefore says nothing about other samples. It measures how far the three to five
points are from a straight line, and so how much the order still changes over the window. A wide interval means that the
window is not asymptotic, so that no order can be read from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis import checks

LEAST_POINTS = 3


@dataclass(frozen=True)
class OrderFit:
    """A slope d log(error) / d log(h): positive where the error vanishes with h, negative where it grows.

    Attributes
    ----------
    slope : of the least-squares line through (log h, log error)
    low, high : the 95 % interval of that line fit, which measures how straight the points are
    h_min, h_max, points : the window it was fitted on, and how many values lie in it
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

    Parameters
    ----------
    h, error : (H,) step sizes, positive and distinct, and the errors there
    floor : one number or (H,); errors below it are left out as round-off or the reference's own error, so give a
        multiple of both
    points : the most values to use

    Returns
    -------
    OrderFit
        The slope with its interval and window.

    Raises
    ------
    ValueError
        For other shapes or step sizes, and if fewer than three errors are above the floor.
    """
    h, error = checks.vector(h, "h"), checks.vector(error, "error")
    floor, points = checks.array(floor, "floor").cpu().numpy(), checks.count("points", points)
    if floor.shape not in ((), h.shape) or np.any(floor < 0):
        raise ValueError(f"floor must be at least 0, one number or one per h, got shape {floor.shape}")
    if h.shape != error.shape or not np.all(h > 0) or len(np.unique(h)) != len(h):
        raise ValueError("h and error must be 1-D of equal length, h positive and distinct")
    usable = np.isfinite(error) & (error > floor)
    window = np.argsort(np.where(usable, h, np.inf))[: min(points, usable.sum())]
    if len(window) < LEAST_POINTS:
        raise ValueError(
            f"error must exceed the floor (at least {np.min(floor):.3g}) at three values of h or more; {len(window)} do"
        )
    line = stats.linregress(np.log(h[window]), np.log(error[window]))
    half = float(stats.t.ppf(0.975, len(window) - 2) * line.stderr)
    slope = float(line.slope)
    return OrderFit(slope, slope - half, slope + half, float(h[window].min()), float(h[window].max()), len(window))
