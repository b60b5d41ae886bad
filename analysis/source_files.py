"""Files that ``analysis.sources`` reads, each once while it does not change, and the strings inside values."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from analysis.syntax import Module, parse

DATA = (".npz", ".json", ".safetensors")
DECORATOR = re.compile(r"^@(?!dataclass|functools|property|contextmanager|contextlib|overload)", re.MULTILINE)


@functools.cache
def parsed(name: str, path: Path, written: int, size: int) -> Module:
    """Return a module of a file; ``written`` and ``size`` make a changed file another key of the cache."""
    return parse(name, path)


@functools.cache
def is_decorated(path: Path, written: int, size: int) -> bool:
    """Return whether a file has a decorator that may fill a registry."""
    return bool(DECORATOR.search(path.read_text(encoding="utf-8")))


@functools.cache
def content_hash(path: Path, written: int, size: int) -> bytes:
    """Return the hash of a data file."""
    return hashlib.sha256(path.read_bytes()).digest()


def data_files(room: Path) -> list[Path]:
    """Return the data files below a folder."""
    return [p for p in sorted(room.rglob("*")) if p.suffix in DATA and p.is_file()]


def strings(value: object) -> Iterator[str]:
    """Yield every string in nested dictionaries' values, sequences and sets."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple | set | frozenset):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)
