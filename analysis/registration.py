"""Experiments and figures by name and the module of each, this project's own and those entered from outside of it.

``toy_models.experiments``, ``real_models.experiments`` and ``figures`` enter their own when they are imported. So may a
user's module, which ``python reproduce.py run NAME --plugin my_module`` imports first, from the current folder too, or
a package that names one under the entry points ``guidance_gradients``:

- ``EXPERIMENTS["name"] = "my_module"``: a module with ``cells(options)``, as ``analysis.suite`` says
- ``FIGURES["my_module"] = "my_module"``: one with ``TABLES``, ``QUESTION``, ``answer`` (with ``headline``) and
  ``draw``, as ``figures`` says; its files have the module's name

The cells of an experiment notice an edit of its own module; ``check`` knows the sources of this project alone.

Paths are entered in ``analysis.paths.PATHS``, solvers in ``analysis.solvers.SOLVERS``; estimators and samplers have
decorators, ``analysis.gradients.register`` and ``analysis.guidance.register``. A cell that is measured in another
process finds them there where its measure or its factory is of the module that enters them.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from types import ModuleType
from typing import Any

from analysis import users_code

EXPERIMENTS: dict[str, str] = {}
FIGURES: dict[str, str] = {}
GROUP = "guidance_gradients"


def enter(registry: dict[str, str], package: str, folders: Iterable[str], helpers: Sequence[str]) -> None:
    """Enter the modules of a package by their names, but for those named in ``helpers``."""
    every = (module.name for module in pkgutil.iter_modules(folders))
    registry |= {name: f"{package}.{name}" for name in every if name not in helpers}


def load(modules: Sequence[str] = ()) -> None:
    """Import the modules that installed packages name as entry points, and those given.

    Raises
    ------
    ImportError
        For a module that is not there or fails, and for a figure or experiment that lacks a part; the message names it.
    """
    if modules:
        import_from_here()
    known = {*EXPERIMENTS.values(), *FIGURES.values()}
    for name in (*(entry.value for entry in metadata.entry_points(group=GROUP)), *modules):
        _imported(name)
    for registry, parts in ((EXPERIMENTS, ("cells",)), (FIGURES, ("TABLES", "QUESTION", "answer", "draw"))):
        for name, module in registry.items():
            if not isinstance(module, str):
                raise ImportError(f"{name!r} must be entered as the name of its module, got {type(module).__name__}")
            if module not in known:
                _complete(module, parts)


def _imported(name: str) -> ModuleType:
    """Import a module; ``ImportError`` with the line for any error of its own."""
    if name.endswith(".py"):
        raise ImportError(f"{name!r} must be a module's name, without .py")
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ImportError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise  # it is not there itself
        place = users_code.place(error)
        raise ImportError(
            f"{name} cannot be imported: {users_code.told(error)}{f' ({place})' if place else ''}"
        ) from error


def _complete(name: str, parts: Sequence[str]) -> None:
    """Refuse a user's module in which a part of a figure or of an experiment is missing, or is of another kind."""
    module = _imported(name)
    if missing := [part for part in parts if not hasattr(module, part)]:
        raise ImportError(f"module {name!r} must define {', '.join(parts)}, and lacks {', '.join(missing)}")
    for part in (part for part in parts if part in KINDS):
        (fits, kind), value = KINDS[part], getattr(module, part)
        if not fits(value):
            raise ImportError(f"{part} of module {name!r} must be {kind}, got {value!r}")


def _are_names(value: Any) -> bool:
    return isinstance(value, tuple | list) and all(isinstance(name, str) for name in value)


# What a part of a module must be.
KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "cells": (callable, "a function of the options"),
    "draw": (callable, "a function of the tables"),
    "answer": (lambda a: callable(a) and hasattr(a, "headline"), "a figures.style.Caption, or have its headline"),
    "TABLES": (_are_names, "a tuple of names, such as ('mine',)"),
}


def import_from_here() -> None:
    """Let modules of the current folder be imported, behind all others, so that none there hides an installed one.

    This project's own folder goes before it: an editable installation is found after all that is on the path, and a
    process that measures would import an ``analysis.py`` of the user's.
    """
    sys.path += [place for place in (str(users_code.ROOT), os.getcwd()) if place not in sys.path]
