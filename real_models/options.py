"""Options of the commands of this package: they are checked before any work, and every failure is one line."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from analysis import command_line


def count(text: str) -> int:
    """Read a whole number of at least 1; raises ``ArgumentTypeError`` for another."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def seed(text: str) -> int:
    """Read a seed of torch's; raises ``ArgumentTypeError`` for another number."""
    try:
        return command_line.seed(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from error


def positive(text: str) -> float:
    """Read a positive number; raises ``ArgumentTypeError`` for another."""
    if not 0 < (value := _number(text)) < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text!r}")
    return value


def share(text: str) -> float:
    """Read a number from 0 to 1; raises ``ArgumentTypeError`` for another."""
    if not 0 <= (value := _number(text)) <= 1:
        raise argparse.ArgumentTypeError(f"must lie in [0, 1], got {text!r}")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def device(text: str) -> str:
    """Read a device on which numbers can be computed here; raises ``ArgumentTypeError`` for another."""
    if said := command_line.unusable(text):
        raise argparse.ArgumentTypeError(said)
    return text


def folder(text: str) -> Path:
    """Read a folder that can be written to, and leave nothing there; raises ``ArgumentTypeError`` for another."""
    if said := command_line.unwritable(Path(text)):
        raise argparse.ArgumentTypeError(said)
    return Path(text)


def file(text: str) -> Path:
    """Read a file that is there; raises ``ArgumentTypeError`` for another."""
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text} is not a file")
    return Path(text)


def in_one_line(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command whose errors that a user can cause end it with one line, and Ctrl-C with another."""

    @wraps(command)
    def run(*arguments: Any) -> None:
        try:
            command(*arguments)
        except (ValueError, ImportError, OSError, FloatingPointError) as error:
            raise SystemExit(f"error: {error}") from error
        except KeyboardInterrupt as stop:
            raise SystemExit("stopped; the same command goes on from the state that was last written") from stop

    return run
