"""Tensors and arrays: states, times, and numbers of any shape."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis.checks.numbers import kind


def tensor(value: Any, name: str) -> Tensor:
    """Return a real, dense tensor of numbers from a tensor or a NumPy array; ``TypeError`` for anything else."""
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind not in "fiu":
            raise TypeError(f"{name} must hold real numbers, got a NumPy array of {value.dtype}")
        dtype = np.dtype("f8") if value.dtype.char == "g" else value.dtype.newbyteorder("=")  # torch has no other
        value = torch.from_numpy(np.require(value, dtype, ["C", "W"]))
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor or a NumPy array, got {kind(value)}")
    if value.dtype == torch.bool or value.is_complex():
        raise TypeError(f"{name} must hold real numbers, got {kind(value)}")
    empty = value.is_meta and type(value) in (Tensor, torch.nn.Parameter)  # a subclass may keep its numbers elsewhere
    if empty or value.layout != torch.strided:
        raise TypeError(f"{name} must be dense and hold numbers, got a {'meta' if empty else 'sparse'} tensor")
    return value


def floats(value: Any, name: str) -> Tensor:
    """Return float64 numbers, without a graph, of a tensor, array, column or lists; ``ValueError`` if ragged."""
    if not isinstance(value, Tensor | type) and hasattr(value, "__array__"):  # such as a column of pandas
        value = np.asarray(value)
    if isinstance(value, list | tuple | Real) and not isinstance(value, bool):
        value = value if not isinstance(value, list | tuple) else [np.asarray(_host(v)) for v in value]
        try:
            value = np.asarray(value)
        except ValueError as error:
            raise ValueError(f"{name} must be an array whose rows have one length") from error
    return tensor(value, name).detach().to(torch.float64)


def array(value: Any, name: str, ndim: int | None = None) -> Tensor:
    """Return ``floats`` that are finite and have ``ndim`` axes, where that is given; raises ``ValueError``."""
    value = floats(value, name)
    if ndim is not None and value.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} axes, got shape {tuple(value.shape)}")
    return finite(name, value)


def vector(value: Any, name: str) -> np.ndarray:
    """Return float64 numbers (n,), n above 0, as a NumPy array; NaN and infinity pass. Raises ``ValueError``."""
    numbers = floats(value, name)
    if numbers.ndim != 1 or not len(numbers):
        raise ValueError(f"{name} must have shape (n,) with n above 0, got {tuple(numbers.shape)}")
    return numbers.cpu().numpy()


def _host(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, Tensor) else value


def finite(name: str, value: Tensor) -> Tensor:
    """Return ``value`` unchanged, or raise ``ValueError`` when it holds NaN or infinity."""
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name} must be finite, but holds NaN or infinity")
    return value


def time(t: Any, batch: tuple[int, ...], device: torch.device | None = None, name: str = "t") -> Tensor:
    """Check a time, or one per sample.

    Returns
    -------
    Tensor
        ``t`` in float64: () or, for per-sample times, of the rank of ``batch``.

    Raises
    ------
    TypeError
        Unless ``t`` is a number or a tensor.
    ValueError
        For another rank, which catches silent broadcasting of (B, 1) or (d,) against (B, d), and for times outside [0,
        1].
    """
    if type(t) is float and 0 <= t <= 1:
        return torch.tensor(t, dtype=torch.float64)
    t = _times(t, name).to(torch.float64)
    t = t if t.ndim == 0 else t.to(device)
    fits = t.ndim == len(batch) and all(n in (1, b) for n, b in zip(t.shape, batch, strict=True))
    if t.ndim and not fits:
        raise ValueError(f"{name} must be a float or have shape {tuple(batch)}, got {tuple(t.shape)}")
    return _within(t, name)


def schedule_times(t: Any, name: str = "t") -> Tensor:
    """Return times of any shape in [0, 1] for a path's schedules: a tensor's own dtype, else float64."""
    return _within(_times(t, name), name)


def _times(t: Any, name: str) -> Tensor:
    if isinstance(t, Real) and not isinstance(t, bool | np.bool_):
        return torch.tensor(float(t), dtype=torch.float64)
    if not isinstance(t, Tensor | np.ndarray | np.generic):
        raise TypeError(f"{name} must be a float or a tensor, got {kind(t)}")
    t = tensor(t, name)
    return t if t.is_floating_point() else t.to(torch.float64)


def _within(t: Tensor, name: str) -> Tensor:
    if not t.numel() or not bool(((t >= 0) & (t <= 1)).all()):
        values = f"values in [{float(t.min()):.6g}, {float(t.max()):.6g}]" if t.numel() else "none"
        raise ValueError(f"{name} must lie in [0, 1], got {values}")
    return t


def state(x: Any, event_shape: tuple[int, ...] | None, name: str = "x") -> Tensor:
    """Check a state.

    Returns
    -------
    Tensor
        ``x`` (B, *event_shape), floating-point and finite; for ``event_shape`` = ``None``, of any event.

    Raises
    ------
    TypeError
        For anything but a floating-point tensor or array.
    ValueError
        For another shape, and for NaN or infinity.
    """
    x = tensor(x, name)
    if not x.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor, got {kind(x)}")
    if x.ndim < 2:
        raise ValueError(f"{name} must have shape (B, *event), got {tuple(x.shape)}")
    if not x.numel():
        raise ValueError(f"{name} must hold at least one sample of at least one number, got shape {tuple(x.shape)}")
    if event_shape is not None and tuple(x.shape[1:]) != tuple(event_shape):
        raise ValueError(f"{name} must have shape (B, {', '.join(map(str, event_shape))}), got {tuple(x.shape)}")
    # What was made in inference mode can be read but not differentiated, and a copy of it can.
    return finite(name, x.clone() if x.is_inference() and not torch.is_inference_mode_enabled() else x)


def alike(g: Any, truth: Any, names: tuple[str, str] = ("g", "truth")) -> tuple[Tensor, Tensor]:
    """Return two tensors (B, *event); ``ValueError`` unless they have one shape and device, as nothing is broadcast."""
    a, b = (tensor(value, name) for value, name in zip((g, truth), names, strict=True))
    if a.shape != b.shape or a.ndim < 2 or a.device != b.device:
        shapes = f"{tuple(a.shape)} on {a.device} and {tuple(b.shape)} on {b.device}"
        raise ValueError(f"{names[0]} and {names[1]} must have one shape (B, *event) and device, got {shapes}")
    return a, b
