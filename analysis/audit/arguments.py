"""Checks of what an audit is asked: names of arguments, names of choices, and kinds of values."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ParamSpec, TypeVar

from analysis import checks
from analysis.audit.refusal import AuditError
from analysis.paths import PATHS, AffinePath
from analysis.spelling import meant, nearest

Taken = ParamSpec("Taken")
Returned = TypeVar("Returned")
OF_ADAPTERS = ("time_scale", "timesteps", "time_shape", "event_shape", "conditioning", "flat", "t_min")


def refuse_unknown(function: Callable[Taken, Returned]) -> Callable[Taken, Returned]:
    """Make a function refuse arguments that it does not have, or lacks, by an ``AuditError`` in plain words."""
    signature = inspect.signature(function)
    names = list(signature.parameters)

    @functools.wraps(function)
    def called(*given: Taken.args, **named: Taken.kwargs) -> Returned:
        for name in named:
            if name not in names:
                raise AuditError(_unknown(function.__name__, name, names))
        try:
            signature.bind(*given, **named)
        except TypeError as error:
            raise AuditError(f"{function.__name__}: {error}; call {function.__name__}{_shown(signature)}") from None
        return function(*given, **named)

    return called


def _unknown(function: str, name: str, names: Sequence[str]) -> str:
    hint = meant(name, names)
    if name in OF_ADAPTERS:
        hint = ": make a flow with it by real_models.adapters.module.flow, and pass that"
    return f"{function} has no argument {name!r}{hint or '; it takes ' + ', '.join(names)}"


def _shown(signature: inspect.Signature) -> str:
    """Return the arguments without types and defaults, as they are passed."""
    parts = [p.name if p.kind is p.POSITIONAL_OR_KEYWORD else f"{p.name}=..." for p in signature.parameters.values()]
    return f"({', '.join(parts)})"


@contextlib.contextmanager
def refusing(prefix: str = "") -> Iterator[None]:
    """Turn what a check raises into an ``AuditError`` with the same words behind ``prefix``."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise AuditError(f"{prefix}{error}") from error


def yes_or_no(name: str, value: Any) -> bool:
    """Return ``value``; raises ``TypeError`` unless it is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {checks.kind(value)}")
    return value


def path(value: Any) -> AffinePath:
    """Return ``value``; raises ``TypeError`` unless it is an ``AffinePath``."""
    if isinstance(value, AffinePath):
        return value
    paths = {key: make() for key, make in PATHS.items()}
    made = {name: repr(path) for key, path in paths.items() for name in (key, type(path).__name__)}
    near = nearest(value, made)
    hint = f"; did you mean analysis.paths.{made[near]}?" if near else ""
    if isinstance(value, type):
        hint = f": make one, {value.__name__}()"
    raise TypeError(f"path must be an analysis.paths.AffinePath, such as CondOT(), got {checks.kind(value)}{hint}")
