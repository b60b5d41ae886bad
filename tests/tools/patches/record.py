"""Patches of the source by name: what is replaced in which file, and the tests that must fail."""

from typing import NamedTuple


class Patch(NamedTuple):
    """``old``, which occurs once in the file ``path``, becomes ``new``; ``tests`` are as pytest takes them."""

    path: str
    old: str
    new: str
    tests: tuple[str, ...]


PATCHES: dict[str, Patch] = {}


def add(path, tests, replacements):
    """Enter patches of one file, name -> (old, new), with tests below ``tests/``."""
    for name, (old, new) in replacements.items():
        if name in PATCHES:
            raise ValueError(f"name {name!r} is taken by another patch")
        PATCHES[name] = Patch(path, old, new, tuple(f"tests/{test}" for test in tests))
