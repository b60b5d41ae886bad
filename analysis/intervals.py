"""Means over measurements with bootstrap confidence intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from torch import Tensor

RESAMPLES = 999


@dataclass(frozen=True)
class Interval:
    """A mean over measurements, its confidence interval, and how many of all measurements failed."""

    mean: float
    low: float
    high: float
    failed: int
    measurements: int


def interval(
    values: Tensor | np.ndarray, *, level: float = 0.95, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Return the mean of (Y,) values, one per measurement, and its BCa bootstrap interval over measurements.

    Values that are not finite are counted as failed; mean and interval are of the others, and NaN where there is none.
    One value, or equal ones, have an interval of no width.
    """
    found = np.asarray(values, dtype=float)
    if found.ndim != 1 or not found.size:
        raise ValueError(f"values must have shape (Y,) with Y above 0, got {found.shape}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level!r}")
    kept = found[np.isfinite(found)]
    counts = {"failed": found.size - kept.size, "measurements": found.size}
    if not kept.size or np.ptp(kept) <= np.finfo(float).eps * np.abs(kept).max():
        middle = float(kept.mean()) if kept.size else float("nan")
        return Interval(middle, middle, middle, **counts)
    options = {"confidence_level": level, "n_resamples": resamples, "vectorized": True}
    ends = stats.bootstrap((kept,), np.mean, rng=np.random.default_rng(seed), **options).confidence_interval
    return Interval(float(kept.mean()), float(ends.low), float(ends.high), **counts)


def paired_interval(values: Tensor | np.ndarray, others: Tensor | np.ndarray, **options: Any) -> Interval:
    """Return ``interval`` of the differences values - others, (Y,) each, of the same measurements.

    A measurement on which either failed is counted as failed.
    """
    a, b = (np.asarray(v, dtype=float) for v in (values, others))
    if a.shape != b.shape:
        raise ValueError(f"values and others must be of the same measurements, got shapes {a.shape} and {b.shape}")
    usable = np.isfinite(a) & np.isfinite(b)
    return interval(np.where(usable, np.where(usable, a, 0) - np.where(usable, b, 0), np.nan), **options)
