"""What is added from outside of this project: experiments, and figures by the modules that draw them.

A user's module, or a package that names it under the entry points ``guidance_gradients``, enters names here when it is
imported; ``python reproduce.py --plugins my_module`` imports it first.

- ``EXPERIMENTS["name"] = "my_module"``: a module with ``cells(options)``, as ``analysis.suite`` says
- ``FIGURES["name"] = "my_module"``: one with ``TABLES``, ``QUESTION``, ``answer`` and ``draw``, as ``figures`` says

Paths are entered in ``analysis.paths.PATHS``, solvers in ``analysis.solvers.SOLVERS``; estimators and samplers have
decorators, ``analysis.gradients.register`` and ``analysis.guidance.register``. A cell that is measured in another
process finds them there where its measure or its factory is of the module that enters them.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib import metadata

EXPERIMENTS: dict[str, str] = {}
FIGURES: dict[str, str] = {}
GROUP = "guidance_gradients"


def load(modules: Sequence[str] = ()) -> None:
    """Import the modules that are named, and those of installed packages that are named as entry points.

    Raises
    ------
    ImportError
        For a module that is not there; the message names it.
    """
    for name in (*(entry.value for entry in metadata.entry_points(group=GROUP)), *modules):
        importlib.import_module(name)
