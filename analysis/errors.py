r"""Distances between a gradient and another: relative L2 error, cosine and norm ratio, per sample and summarised."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from analysis import checks
from analysis.norms import scaled, widened

QUANTILES = (0.25, 0.5, 0.75)


def relative(error: Tensor, scale: Tensor) -> Tensor:
    """Return |error| / |scale| per sample (B,), in float32 or wider; 0/0 is 0."""
    (above, up), (below, down) = scaled(error), scaled(scale)
    size = torch.linalg.vector_norm(above, dim=1)
    return torch.where(size == 0, 0.0, size / torch.linalg.vector_norm(below, dim=1) * (up / down))


def relative_error(g: Tensor, truth: Tensor) -> Tensor:
    """Compute |g - truth| / |truth| per sample of two tensors (B, *event); 0/0 is 0.

    The other metrics raise the same errors.

    Returns
    -------
    Tensor
        (B,).

    Raises
    ------
    TypeError
        For arguments that are not real tensors.
    ValueError
        For tensors of different shapes.
    """
    g, truth = checks.alike(g, truth)
    return relative(widened(g) - widened(truth), truth)


def one_minus_cosine(g: Tensor, truth: Tensor) -> Tensor:
    """Compute 1 - <g, truth>/(|g| |truth|) per sample, as half the squared distance of the unit vectors.

    That form keeps its relative accuracy where the two directions nearly agree.

    Returns
    -------
    Tensor
        (B,).
    """
    rows = [scaled(v)[0] for v in checks.alike(g, truth)]
    units = [v / torch.linalg.vector_norm(v, dim=1)[:, None] for v in rows]
    return (units[0] - units[1]).square().sum(1) / 2


def norm_ratio(g: Tensor, truth: Tensor) -> Tensor:
    """Return |g| / |truth| per sample (B,)."""
    g, truth = checks.alike(g, truth)
    (above, up), (below, down) = scaled(g), scaled(truth)
    return torch.linalg.vector_norm(above, dim=1) / torch.linalg.vector_norm(below, dim=1) * (up / down)


METRICS: checks.Registry[Callable[[Tensor, Tensor], Tensor]] = checks.Registry(
    "metric",
    {
        "relative_error": relative_error,
        "one_minus_cosine": one_minus_cosine,
        "norm_ratio": norm_ratio,
    },
)


def summary(values: Tensor) -> dict[str, float]:
    """Summarise values (B,): median ("value") and quartiles ("low", "high") of the finite ones, and failures.

    Where no value is finite the three are NaN, and "failed" counts all values.

    Returns
    -------
    dict
        "value", "low", "high", "failed" and "samples".

    Raises
    ------
    ValueError
        Unless values have shape (B,), with B at least 1.
    """
    values = checks.tensor(values, "values")
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values must have shape (B,) with B above 0, got {tuple(values.shape)}")
    usable = values[torch.isfinite(values)].double()
    levels = torch.tensor(QUANTILES, dtype=torch.float64, device=usable.device)
    low, median, high = map(float, torch.quantile(usable, levels)) if len(usable) else [float("nan")] * 3
    return {"value": median, "low": low, "high": high, "failed": len(values) - len(usable), "samples": len(values)}
