"""Checks of arguments: each raises a ``ValueError`` or ``TypeError`` that names the argument and what was expected."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import Any

import torch
from torch import Tensor


def finite(name: str, value: Tensor) -> Tensor:
    """Return ``value`` unchanged, or raise ``ValueError`` when it holds NaN or infinity."""
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name} must be finite, but holds NaN or infinity")
    return value


def time(t: Any, batch: tuple[int, ...], device: torch.device | None = None, name: str = "t") -> Tensor:
    """Return ``t`` as a float64 tensor of shape () or, for per-sample times, of ``batch``'s rank.

    A tensor of another rank is refused: broadcasting (B, 1) or (d,) against (B, d) is how times go wrong.
    """
    if not isinstance(t, (Real, Tensor)):
        raise TypeError(f"{name} must be a float or a tensor, got {type(t).__name__}")
    t = torch.as_tensor(t, dtype=torch.float64)
    t = t if t.ndim == 0 else t.to(device)
    fits = t.ndim == len(batch) and all(n in (1, b) for n, b in zip(t.shape, batch, strict=True))
    if t.ndim and not fits:
        raise ValueError(f"{name} must be a float or have shape {tuple(batch)}, got {tuple(t.shape)}")
    if not bool(((t >= 0) & (t <= 1)).all()):
        raise ValueError(f"{name} must lie in [0, 1], got values in [{t.min():.6g}, {t.max():.6g}]")
    return t


def state(x: Any, event_shape: tuple[int, ...] | None, name: str = "x") -> Tensor:
    """Return ``x``, a finite floating-point tensor of shape (B, *event_shape); ``None`` accepts any event."""
    if not (isinstance(x, Tensor) and x.is_floating_point()):
        raise TypeError(f"{name} must be a floating-point tensor, got {getattr(x, 'dtype', type(x).__name__)}")
    if x.ndim < 2:
        raise ValueError(f"{name} must have shape (B, *event), got {tuple(x.shape)}")
    if not len(x):
        raise ValueError(f"{name} must hold at least one sample, got shape {tuple(x.shape)}")
    if event_shape is not None and tuple(x.shape[1:]) != tuple(event_shape):
        raise ValueError(f"{name} must have shape (B, {', '.join(map(str, event_shape))}), got {tuple(x.shape)}")
    return finite(name, x)


def count(name: str, value: Any) -> int:
    """Return ``value``, an integer of at least one."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
    return value


def share(name: str, value: float) -> float:
    """Return a number in [0, 1], or raise ``ValueError``."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {value!r}")
    return value


def known(name: str, value: Any, names: Iterable[str]) -> str:
    """Return ``value`` where it is one of ``names``; the error lists them."""
    names = sorted(names)
    if value not in names:
        raise ValueError(f"{name} must be one of {', '.join(names)}; got {value!r}")
    return value
