"""The one door: what a flow, a loss, a path, a state, a time, an array, a count, a number and a choice are.

Every public function takes its arguments through here and trusts them from then on. Each check returns the argument in
the form in which the code uses it, or raises a ``TypeError`` for an object of another kind and a ``ValueError`` for a
value out of range; the message names the argument and says what was expected. NumPy arrays are taken wherever a tensor
is, NumPy numbers and tensors of one element wherever a number is. Booleans, complex numbers and strings are no numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

Value = TypeVar("Value")
Given = TypeVar("Given")
MOST, MOST_STEPS = 10**9, 10**6  # more samples or solver steps are a slip of the keyboard
WRAP = "wrap a network in analysis.flow.from_velocity(network, path), from_denoiser or from_noise_predictor"


class Registry(dict[str, Value]):
    """Named values; asking for a name that is not there raises a ``KeyError`` that lists those that are."""

    def __init__(self, kind: str, values: dict[str, Value] | None = None) -> None:
        super().__init__(values or {})
        self.kind = kind

    def __missing__(self, name: Any) -> Value:
        raise UnknownNameError(f"{self.kind} must be one of {', '.join(sorted(self))}; got {name!r}")


class UnknownNameError(KeyError, ValueError):
    """A name that no registry knows."""

    def __str__(self) -> str:
        return str(self.args[0])


def kind(value: Any) -> str:
    """Return what to call a value in an error message."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')}, shape {tuple(value.shape)}"
    return (
        f"{type(value).__name__} {value!r}"[:120] if isinstance(value, str | Real | complex) else type(value).__name__
    )


def flow(value: Given, name: str = "flow") -> Given:
    """Return ``value``, an object with the methods of ``analysis.flow.Flow``."""
    methods = ("predict", "predict_vjp", "checked")
    if isinstance(value, type) or not all(callable(getattr(value, method, None)) for method in methods):
        hint = f"; {WRAP}" if callable(value) else ""
        raise TypeError(f"{name} must be an analysis.flow.Flow, got {kind(value)}{hint}")
    return value


def loss(value: Given, name: str = "loss") -> Given:
    """Return ``value``, a callable that maps x (B, *event) to (B,)."""
    if isinstance(value, type) or not callable(value):
        hint = "; for a target write losses.HalfSquaredDistance(target)" if isinstance(value, Tensor | list) else ""
        raise TypeError(
            f"{name} must be a callable x (B, *event) -> (B,), as in analysis.losses; got {kind(value)}{hint}"
        )
    return value


def path(value: Given, name: str = "path") -> Given:
    """Return ``value``, an object with the methods of ``analysis.paths.AffinePath``."""
    if isinstance(value, type) or not callable(getattr(value, "readout", None)):
        hint = f"; make one: {value.__name__}()" if isinstance(value, type) else ""
        raise TypeError(f"{name} must be an analysis.paths.AffinePath, such as CondOT(), got {kind(value)}{hint}")
    return value


def function(value: Given, name: str) -> Given:
    """Return ``value``, an ``nn.Module`` or a function, but no class."""
    if isinstance(value, type) or not callable(value):
        hint = ": make an instance of it" if isinstance(value, type) else ""
        raise TypeError(f"{name} must be an nn.Module or a function, got {kind(value)}{hint}")
    return value


def tensor(value: Any, name: str) -> Tensor:
    """Return a real, dense tensor of numbers from a tensor or a NumPy array."""
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind not in "fiu":
            raise TypeError(f"{name} must hold real numbers, got a NumPy array of {value.dtype}")
        value = torch.from_numpy(np.ascontiguousarray(value)).reshape(value.shape)
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor or a NumPy array, got {kind(value)}")
    if value.dtype == torch.bool or value.is_complex():
        raise TypeError(f"{name} must hold real numbers, got {kind(value)}")
    empty = value.is_meta and type(value) in (Tensor, torch.nn.Parameter)  # a subclass may keep its numbers elsewhere
    if empty or value.layout != torch.strided:
        raise TypeError(f"{name} must be dense and hold numbers, got a {'meta' if empty else 'sparse'} tensor")
    return value


def array(value: Any, name: str) -> Tensor:
    """Return float64 numbers, finite, from a tensor, a NumPy array, or (nested) lists of numbers, without a graph."""
    if isinstance(value, list | tuple | Real) and not isinstance(value, bool):
        value = value if not isinstance(value, list | tuple) else [np.asarray(_host(v)) for v in value]
        try:
            value = np.asarray(value)
        except ValueError as error:
            raise ValueError(f"{name} must be an array whose rows have one length") from error
    return finite(name, tensor(value, name).detach().to(torch.float64))


def _host(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, Tensor) else value


_door_passed: ContextVar[bool] = ContextVar("door_passed", default=False)


@contextmanager
def passed_door() -> Iterator[None]:
    """Trust tensors of times and coordinates in the block, which a public function opens after it checked its own.

    A solver asks its path for coefficients several times a step, always at times that follow from checked ones. Asking
    again costs a fifth of the time of a small network, and on a GPU a wait for the device each time.
    """
    token = _door_passed.set(True)
    try:
        yield
    finally:
        _door_passed.reset(token)


def door_passed() -> bool:
    """Say whether the code that runs was called by a public function that checked its arguments."""
    return _door_passed.get()


def may_ask(value: Tensor) -> bool:
    """Say whether code may look at the numbers of a tensor: not inside a public function where that stops a GPU."""
    return value.device.type == "cpu" or not _door_passed.get()


def finite(name: str, value: Tensor) -> Tensor:
    """Return ``value`` unchanged, or raise ``ValueError`` when it holds NaN or infinity."""
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name} must be finite, but holds NaN or infinity")
    return value


def time(t: Any, batch: tuple[int, ...], device: torch.device | None = None, name: str = "t") -> Tensor:
    """Return ``t`` as a float64 tensor of shape () or, for per-sample times, of ``batch``'s rank.

    Raises ``ValueError`` for another rank, which catches the silent broadcasting of (B, 1) or (d,) against (B, d), and
    for times outside [0, 1].
    """
    if isinstance(t, Real) and not isinstance(t, bool):
        t = torch.tensor(float(t), dtype=torch.float64)
    elif isinstance(t, Tensor | np.ndarray | np.generic):
        t = tensor(t, name).to(torch.float64)
    else:
        raise TypeError(f"{name} must be a float or a tensor, got {kind(t)}")
    t = t if t.ndim == 0 else t.to(device)
    fits = t.ndim == len(batch) and all(n in (1, b) for n, b in zip(t.shape, batch, strict=True))
    if t.ndim and not fits:
        raise ValueError(f"{name} must be a float or have shape {tuple(batch)}, got {tuple(t.shape)}")
    if not bool(((t >= 0) & (t <= 1)).all()):
        raise ValueError(f"{name} must lie in [0, 1], got values in [{t.min():.6g}, {t.max():.6g}]")
    return t


def state(x: Any, event_shape: tuple[int, ...] | None, name: str = "x") -> Tensor:
    """Return ``x``, a finite floating-point tensor of shape (B, *event_shape); ``None`` accepts any event."""
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


def differentiable_here() -> None:
    """Raise ``ValueError`` inside ``torch.inference_mode()``, where nothing can be differentiated."""
    if torch.is_inference_mode_enabled():
        raise ValueError("gradients cannot be taken inside torch.inference_mode(); torch.no_grad() is fine")


def arguments(given_flow: Any, given_loss: Any, x: Any, t: Any) -> tuple[Tensor, Tensor]:
    """Return x and t, without a graph, of a public function that takes gradients, after a look at flow and loss."""
    differentiable_here()
    loss(given_loss)
    x, t = (value.detach() for value in flow(given_flow).checked(x, t))
    with passed_door():
        given_flow.ask(x, t)
    return x, t


def alike(g: Any, truth: Any, names: tuple[str, str] = ("g", "truth")) -> tuple[Tensor, Tensor]:
    """Return two tensors (B, *event) of one shape and device; nothing is broadcast."""
    a, b = (tensor(value, name) for value, name in zip((g, truth), names, strict=True))
    if a.shape != b.shape or a.ndim < 2 or a.device != b.device:
        shapes = f"{tuple(a.shape)} on {a.device} and {tuple(b.shape)} on {b.device}"
        raise ValueError(f"{names[0]} and {names[1]} must have one shape (B, *event) and device, got {shapes}")
    return a, b


def count(name: str, value: Any, most: int = MOST) -> int:
    """Return ``value``, an integer from 1 to ``most``, as a Python integer."""
    value = value.item() if isinstance(value, Tensor | np.ndarray) and value.ndim == 0 else value
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
    if int(value) > most:
        raise ValueError(f"{name} must be at most {most:,}, got {int(value):,}")
    return int(value)


def steps(value: Any, name: str = "steps") -> int:
    """Return ``value``, a number of solver steps, from 1 to ``MOST_STEPS``."""
    return count(name, value, MOST_STEPS)


def number(name: str, value: Any) -> float:
    """Return ``value``, a real number or a tensor of one, as a float; NaN and infinity pass."""
    value = value.item() if isinstance(value, Tensor | np.ndarray) and value.ndim == 0 else value
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {kind(value)}")
    return float(value)


def positive(name: str, value: Any) -> float:
    """Return a number in (0, infinity)."""
    if not 0 < number(name, value) < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value!r}")
    return number(name, value)


def at_least(name: str, value: Any, least: float = 0) -> float:
    """Return a finite number that is at least ``least``."""
    if not least <= number(name, value) < math.inf:
        raise ValueError(f"{name} must be at least {least:g} and finite, got {value!r}")
    return number(name, value)


def share(name: str, value: Any) -> float:
    """Return a number in [0, 1], or raise ``ValueError``."""
    if not 0 <= number(name, value) <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {value!r}")
    return number(name, value)


def inside(name: str, value: Any) -> float:
    """Return a number in (0, 1), or raise ``ValueError``."""
    if not 0 < number(name, value) < 1:
        raise ValueError(f"{name} must lie in (0, 1), got {value!r}")
    return number(name, value)


def seed(name: str, value: Any) -> int:
    """Return ``value``, an integer that seeds a generator: from 0 to 2^63 - 1."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not 0 <= int(value) < 2**63:
        raise ValueError(f"{name} must be an integer from 0 to 2^63 - 1, got {value!r}")
    return int(value)


def generator(value: Any, name: str = "generator") -> torch.Generator:
    """Return ``value``, a ``torch.Generator`` of the CPU."""
    if not isinstance(value, torch.Generator) or value.device.type != "cpu":
        raise TypeError(f"{name} must be a torch.Generator of the CPU, got {kind(value)}")
    return value


def known(name: str, value: Any, names: Iterable[str]) -> str:
    """Return ``value`` where it is one of ``names``; the error lists them."""
    names = sorted(names)
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{name} must be one of {', '.join(names)}; got {value!r}")
    return value
