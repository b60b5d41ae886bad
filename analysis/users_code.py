"""Where in a user's own code an error was raised, and in one line what it says.

This module never imports torch, so that figures can use what needs it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
ROOMS = ("analysis", "toy_models", "real_models", "figures")
_torch = importlib.util.find_spec("torch")  # where packages are installed
PACKAGES = [Path(_torch.origin).parents[1]] if _torch and _torch.origin else []
NOT_THEIRS = (*(ROOT / room for room in ROOMS), ROOT / "reproduce.py", *PACKAGES, Path(inspect.__file__).parent)
MARK = "source"  # in the extras of a cell of a user's experiment


class PluginError(RuntimeError):
    """A user's module fails; the message is one line for the user, and names its file."""


def is_users(module: str) -> bool:
    """Return whether a module is none of this project's."""
    return module.partition(".")[0] not in ROOMS


def place(error: BaseException | None) -> str | None:
    """Return "file.py:line", the last line of the user's own code below which an error was raised, if there is one."""
    frames = traceback.extract_tb(error.__traceback__) if error else []
    frames = [f for f in frames if not f.filename.startswith("<frozen")]  # Python's own have no file
    theirs = [f for f in frames if not any(Path(f.filename).is_relative_to(room) for room in NOT_THEIRS)]
    return f"{Path(theirs[-1].filename).name}:{theirs[-1].lineno}" if theirs else None


def told(error: BaseException) -> str:
    """Return the kind of an error and what it says, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")


def file_of(module: ModuleType) -> str | None:
    """Return the name of a module's file where it is a user's, else None."""
    return Path(getattr(module, "__file__", None) or module.__name__).name if is_users(module.__name__) else None


@contextlib.contextmanager
def one_line(who: str | None) -> Iterator[None]:
    """Turn what is raised inside the block into a ``PluginError``; ``who`` is the user's, or None: nothing is turned.

    Raises
    ------
    PluginError
        With the line of the user's code, or ``who`` where it is none of theirs. A disk's own refusals stay.
    """
    try:
        yield
    except Exception as error:
        where = place(error)
        if who is None or isinstance(error, PluginError) or (isinstance(error, OSError) and not where):
            raise
        raise PluginError(f"{where or who}: {told(error)}") from error
