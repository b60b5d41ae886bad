"""How an audit refuses, and how it says what went wrong in a user's code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from analysis import users_code

# What errors of torch say of a network's times, and what to do about it.
HINTS = {
    "number of dimensions": "; t arrives with shape (B,), and real_models.adapters.module.flow(..., "
    "time_shape='column') passes (B, 1)",
    "'indices'": "; the model takes discrete timesteps: real_models.adapters.module.flow(..., timesteps=N) "
    "interpolates between them",
}


class AuditError(ValueError):
    """The audit refuses; the message says what of the user's is not as it must be."""


def ask(name: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call the user's code, or what runs it; whatever it raises becomes an ``AuditError`` that says where.

    Returns
    -------
    Any
        What the function returns.

    Raises
    ------
    AuditError
        For any exception, with ``name`` before its message.
    """
    try:
        return function(*arguments, **options)
    except AuditError as error:
        raise AuditError(f"{name}: {error}") from error
    except Exception as error:
        # analysis.probe says in its words what a function raised.
        place = users_code.place(error) or users_code.place(error.__cause__)
        where = f" ({place})" if place else ""
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        hint = next((hint for part, hint in HINTS.items() if part in str(error)), "")
        raise AuditError(f"{name}: {kind}{error}{where}{hint}") from error
