r"""How far a gradient is from another: relative L2 error, cosine and norm ratio, per sample and summarised."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

QUANTILES = (0.25, 0.5, 0.75)


def _norm(g: Tensor) -> Tensor:
    return torch.linalg.vector_norm(g.flatten(1), dim=1)


def relative(error: Tensor, scale: Tensor) -> Tensor:
    """Return |error| / |scale| per sample, (B,); 0/0 is 0."""
    size = _norm(error)
    return torch.where(size == 0, 0.0, size / _norm(scale))


def relative_error(g: Tensor, truth: Tensor) -> Tensor:
    """Return |g - truth| / |truth| per sample, (B,); 0/0 is 0."""
    return relative(g - truth, truth)


def one_minus_cosine(g: Tensor, truth: Tensor) -> Tensor:
    """Return 1 - <g, truth>/(|g| |truth|) per sample, (B,), as half the squared distance of the unit vectors.

    That form keeps its relative accuracy where the two directions nearly agree.
    """
    units = [v.flatten(1) / _norm(v)[:, None] for v in (g, truth)]
    return (units[0] - units[1]).square().sum(1) / 2


def norm_ratio(g: Tensor, truth: Tensor) -> Tensor:
    """Return |g| / |truth| per sample, (B,)."""
    return _norm(g) / _norm(truth)


METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "relative_error": relative_error,
    "one_minus_cosine": one_minus_cosine,
    "norm_ratio": norm_ratio,
}


def summary(values: Tensor) -> dict[str, float]:
    """Return the median ("value") and the quartiles ("low", "high") of the finite values, and how many are not.

    Where none is finite the three are NaN and "failed" counts them all.
    """
    kept = values[torch.isfinite(values)]
    quartiles = torch.quantile(kept.double(), torch.tensor(QUANTILES).double()) if len(kept) else [float("nan")] * 3
    low, median, high = map(float, quartiles)
    return {"value": median, "low": low, "high": high, "failed": len(values) - len(kept), "samples": len(values)}
