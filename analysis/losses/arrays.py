"""A user's arrays inside losses: as finite tensors, in the shape of the states."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from analysis import checks
from analysis.norms import widened


def given(name: str, value: Any) -> Tensor:
    """Return a user's array as a finite tensor, a tensor in its own dtype and anything else in float64."""
    return checks.finite(name, checks.tensor(value, name)) if isinstance(value, Tensor) else checks.array(value, name)


def fitting(name: str, value: Tensor, x: Tensor) -> Tensor:
    """Return ``value``, one event or one per sample, for use with x (B, *event); ``ValueError`` for other shapes."""
    if value.shape not in (x.shape, x.shape[1:]):
        got = f"{tuple(x.shape)}; got {tuple(value.shape)}"
        raise ValueError(f"{name} must have the shape of x or of one sample of x, {got}")
    return value.to(widened(x))
