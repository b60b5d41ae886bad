"""How an audit refuses, and how it says what went wrong in a user's code."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

NOT_THEIRS = (Path(__file__).parents[1], Path(torch.__file__).parents[1], Path(inspect.__file__).parent)

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
        theirs = _theirs(error) or _theirs(error.__cause__)  # analysis.probe says in its words what a function raised
        where = f" ({Path(theirs[-1].filename).name}:{theirs[-1].lineno})" if theirs else ""
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        hint = next((hint for part, hint in HINTS.items() if part in str(error)), "")
        raise AuditError(f"{name}: {kind}{error}{where}{hint}") from error


def _theirs(error: BaseException | None) -> list[traceback.FrameSummary]:
    """Return the frames of the user's own code below which an error was raised; Python's own have no file."""
    frames = traceback.extract_tb(error.__traceback__) if error else []
    frames = [f for f in frames if not f.filename.startswith("<frozen")]
    return [f for f in frames if not any(Path(f.filename).is_relative_to(room) for room in NOT_THEIRS)]
