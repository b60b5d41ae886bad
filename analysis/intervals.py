"""Confidence intervals: of means over measurements, by the bootstrap or Student's t, and of any other statistic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from torch import Tensor

from analysis import checks

RESAMPLES = 999
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over measurements, its confidence interval, and the numbers of measurements and of failed ones."""

    mean: float
    low: float
    high: float
    failed: int
    measurements: int


def interval(
    values: Tensor | np.ndarray, *, level: float = LEVEL, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Compute the mean of values (Y,), one per measurement, and its BCa bootstrap interval over measurements.

    Values that are not finite count as failed; mean and interval are of the others, and NaN where there are none. A
    single value, or equal ones, have an interval of width zero. BCa: Efron (1987), *J. Am. Stat. Assoc.* 82.

    Returns
    -------
    Interval
        Of the mean.

    Raises
    ------
    ValueError
        For values of another shape and a level outside (0, 1).
    """
    array, seed = checks.vector(values, "values"), checks.seed("seed", seed)
    level, resamples = checks.inside("level", level), checks.count("resamples", resamples)
    finite, counts = _finite(array)
    if not finite.size or np.ptp(finite) <= np.finfo(float).eps * np.abs(finite).max():
        middle = float(finite.mean()) if finite.size else float("nan")
        return Interval(middle, middle, middle, **counts)
    low, high = _bootstrap(np.mean, (finite,), "BCa", level, seed, resamples)
    return Interval(float(finite.mean()), float(low), float(high), **counts)


def interval_of_few(values: Tensor | np.ndarray, *, level: float = LEVEL) -> Interval:
    """Compute the mean of a few values (Y,), such as one per operator, and Student's t interval.

    The bootstrap's interval is too narrow for ten values or fewer: their resamples hold no value beyond them. Values
    that are not finite count as failed; the ends are NaN for fewer than two others.

    Returns
    -------
    Interval
        Of the mean.

    Raises
    ------
    ValueError
        For values of another shape and a level outside (0, 1).
    """
    array, level = checks.vector(values, "values"), checks.inside("level", level)
    finite, counts = _finite(array)
    mean = float(finite.mean()) if finite.size else float("nan")
    half = float("nan")
    if finite.size > 1:
        half = float(stats.t.ppf((1 + level) / 2, finite.size - 1) * finite.std(ddof=1) / np.sqrt(finite.size))
    return Interval(mean, mean - half, mean + half, **counts)


def paired_interval(values: Tensor | np.ndarray, others: Tensor | np.ndarray, **options: Any) -> Interval:
    """Compute ``interval`` of the differences values - others, (Y,) each, of the same measurements.

    A measurement on which either failed counts as failed.

    Returns
    -------
    Interval
        Of the mean difference.

    Raises
    ------
    ValueError
        For shapes that differ, and as ``interval`` does.
    """
    a, b = checks.vector(values, "values"), checks.vector(others, "others")
    if a.shape != b.shape:
        raise ValueError(f"values and others must be of the same measurements, got shapes {a.shape} and {b.shape}")
    usable = np.isfinite(a) & np.isfinite(b)
    return interval(np.where(usable, np.where(usable, a, 0) - np.where(usable, b, 0), np.nan), **options)


def bootstrap(
    statistic: Callable[..., np.ndarray],
    *samples: np.ndarray,
    level: float = LEVEL,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute a statistic of samples and its bootstrap interval by percentiles.

    Parameters
    ----------
    statistic : maps R resamples of each sample, (R, n_i, ...), to (R, K)
    samples : (n_i, ...) each; rows of each sample are resampled independently, so paired values belong in one sample
    level, seed, resamples : of the interval

    Returns
    -------
    tuple
        The statistic, and the lower and upper end of its interval, each (K,).

    Raises
    ------
    ValueError
        For a sample without rows and a level outside (0, 1).
    """
    if not samples or not all(len(sample) for sample in samples):
        raise ValueError(f"samples must have at least one row each, got {[np.shape(s) for s in samples]}")

    def of_rows(*rows: np.ndarray, axis: int) -> np.ndarray:
        return statistic(*(sample[index] for sample, index in zip(samples, rows, strict=True))).T

    # SciPy takes two rows or more: one row counts twice, which moves no mean and no quantile.
    rows = tuple(np.arange(len(sample)) if len(sample) > 1 else np.zeros(2, dtype=int) for sample in samples)
    low, high = _bootstrap(of_rows, rows, "percentile", level, seed, resamples)
    return statistic(*(sample[None] for sample in samples))[0], low, high


def spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute Spearman's rank correlation of a and b (..., n) over the last axis.

    Returns
    -------
    np.ndarray
        (...), 0 where a or b is constant.

    Raises
    ------
    ValueError
        For arrays of different shapes, and for NaN.
    """
    a, b = checks.array(a, "a").numpy(), checks.array(b, "b").numpy()
    if a.shape != b.shape or not a.shape or not a.shape[-1]:
        raise ValueError(f"a and b must have one shape (..., n), got {a.shape} and {b.shape}")
    ranks = [stats.rankdata(values, axis=-1) for values in (a, b)]
    x, y = (r - r.mean(-1, keepdims=True) for r in ranks)
    size = np.sqrt((x**2).sum(-1) * (y**2).sum(-1))
    return np.divide((x * y).sum(-1), size, out=np.zeros_like(size), where=size > 0)


def _finite(values: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    """Return the finite values, and how many measurements there are and failed."""
    finite = values[np.isfinite(values)]
    return finite, {"failed": values.size - finite.size, "measurements": values.size}


def _bootstrap(
    statistic: Callable[..., Any], data: tuple[np.ndarray, ...], method: str, level: float, seed: int, resamples: int
) -> tuple[Any, Any]:
    """Return the ends of an interval of a vectorised statistic, by SciPy."""
    options: dict[str, Any] = {
        "confidence_level": checks.inside("level", level),
        "n_resamples": resamples,
        "vectorized": True,
    }
    options |= {"method": method, "axis": -1, "rng": np.random.default_rng(seed)}
    ends = stats.bootstrap(data, statistic, **options).confidence_interval
    return ends.low, ends.high
