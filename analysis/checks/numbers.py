"""Counts, numbers, choices and generators, and how a message names what it got."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

Value = TypeVar("Value")
MOST, MOST_STEPS = 10**9, 10**6  # more samples or solver steps are a slip of the keyboard


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


def count(name: str, value: Any, most: int = MOST, least: int = 1) -> int:
    """Return ``value``, an integer from ``least`` to ``most``, as a Python integer."""
    value = value.item() if isinstance(value, Tensor | np.ndarray) and value.ndim == 0 else value
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
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


def finite_number(name: str, value: Any) -> float:
    """Return a number that is neither NaN nor infinite."""
    if not math.isfinite(number(name, value)):
        raise ValueError(f"{name} must be finite, got {value!r}")
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


def device(value: Any, name: str = "device") -> str:
    """Return ``value``, the name of one of torch's devices."""
    try:
        return str(torch.device(value if isinstance(value, str) else ""))
    except RuntimeError:
        raise ValueError(f"{name} must name a device, such as cpu or cuda, got {kind(value)}") from None


def known(name: str, value: Any, names: Iterable[str]) -> str:
    """Return ``value`` where it is one of ``names``; the error lists them."""
    names = sorted(names)
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{name} must be one of {', '.join(names)}; got {value!r}")
    return value


def sequence(name: str, value: Any) -> list[Any]:
    """Return the members of a list, a tuple, or an array or tensor of one axis; at least one."""
    if isinstance(value, Tensor | np.ndarray) and value.ndim == 1:
        value = list(value)
    if isinstance(value, str | bytes | Mapping | Tensor | np.ndarray) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a sequence, such as a list, got {kind(value)}")
    if not (members := list(value)):
        raise ValueError(f"{name} must hold at least one entry")
    return members
