"""Checks of counts, numbers, choices and generators, and names of objects for messages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from analysis.spelling import meant

Value = TypeVar("Value")
MOST, MOST_STEPS = 10**9, 10**6  # more samples or solver steps are a slip of the keyboard


class Registry(dict[str, Value]):
    """Named values; an unknown name raises a ``KeyError`` that lists the known ones."""

    def __init__(self, kind: str, values: dict[str, Value] | None = None) -> None:
        super().__init__(values or {})
        self.kind = kind

    def __missing__(self, name: Any) -> Value:
        raise UnknownNameError(f"{self.kind} must be one of {', '.join(sorted(self))}; got {name!r}{meant(name, self)}")


class UnknownNameError(KeyError, ValueError):
    """A name that is not in a registry."""

    def __str__(self) -> str:
        return str(self.args[0])


def kind(value: Any) -> str:
    """Return a description of a value for an error message."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')}, shape {tuple(value.shape)}"
    return (
        f"{type(value).__name__} {value!r}"[:120] if isinstance(value, str | Real | complex) else type(value).__name__
    )


def count(name: str, value: Any, most: int = MOST, least: int = 1) -> int:
    """Return ``value`` as a Python integer; ``ValueError`` unless it is one from ``least`` to ``most``."""
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
    """Return a real number, or a tensor of one, as a float; NaN and infinity pass. Raises ``TypeError``."""
    value = value.item() if isinstance(value, Tensor | np.ndarray) and value.ndim == 0 else value
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {kind(value)}")
    return float(value)


def positive(name: str, value: Any) -> float:
    """Return a number in (0, infinity); raises ``ValueError`` for any other."""
    if not 0 < number(name, value) < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value!r}")
    return number(name, value)


def at_least(name: str, value: Any, least: float = 0) -> float:
    """Return a finite number of at least ``least``; raises ``ValueError`` for any other."""
    if not least <= number(name, value) < math.inf:
        raise ValueError(f"{name} must be at least {least:g} and finite, got {value!r}")
    return number(name, value)


def finite_number(name: str, value: Any) -> float:
    """Return a finite number; raises ``ValueError`` for NaN and infinity."""
    if not math.isfinite(number(name, value)):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return number(name, value)


def share(name: str, value: Any) -> float:
    """Return a number in [0, 1]; raises ``ValueError`` for any other."""
    if not 0 <= number(name, value) <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {value!r}")
    return number(name, value)


def inside(name: str, value: Any) -> float:
    """Return a number in (0, 1); raises ``ValueError`` for any other."""
    if not 0 < number(name, value) < 1:
        raise ValueError(f"{name} must lie in (0, 1), got {value!r}")
    return number(name, value)


def seed(name: str, value: Any) -> int:
    """Return an integer that seeds a generator, from 0 to 2^63 - 1; raises ``ValueError`` for any other."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not 0 <= int(value) < 2**63:
        raise ValueError(f"{name} must be an integer from 0 to 2^63 - 1, got {value!r}")
    return int(value)


def generator(value: Any, name: str = "generator") -> torch.Generator:
    """Return ``value``; raises ``TypeError`` unless it is a ``torch.Generator`` of the CPU."""
    if not isinstance(value, torch.Generator) or value.device.type != "cpu":
        raise TypeError(f"{name} must be a torch.Generator of the CPU, got {kind(value)}")
    return value


def device(value: Any, name: str = "device") -> str:
    """Return the name of one of torch's devices; raises ``ValueError`` for any other."""
    try:
        return str(torch.device(value if isinstance(value, str) else ""))
    except RuntimeError:
        raise ValueError(f"{name} must name a device, such as cpu or cuda, got {kind(value)}") from None


def known(name: str, value: Any, names: Iterable[str]) -> str:
    """Return ``value``; raises ``ValueError``, which lists ``names``, unless it is one of them."""
    names = sorted(names)
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{name} must be one of {', '.join(names)}; got {value!r}{meant(value, names)}")
    return value


def sequence(name: str, value: Any) -> list[Any]:
    """Return the members of a list, tuple, or array of one axis; ``TypeError`` for others, ``ValueError`` if empty."""
    if isinstance(value, Tensor | np.ndarray) and value.ndim == 1:
        value = list(value)
    if isinstance(value, str | bytes | Mapping | Tensor | np.ndarray) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a sequence, such as a list, got {kind(value)}")
    if not (members := list(value)):
        raise ValueError(f"{name} must hold at least one entry")
    return members
