"""Figures by name and the module that draws each, entered from outside of the library.

``figures`` enters its own when it is imported. So may a user's module, or a package that names one under the entry
points ``guidance_gradients``: ``FIGURES["name"] = "my_module"``, with ``TABLES``, ``QUESTION``, ``answer`` and ``draw``
as ``figures`` says.

Paths are entered in ``analysis.paths.PATHS``, solvers in ``analysis.solvers.SOLVERS``; estimators and samplers have
decorators, ``analysis.gradients.register`` and ``analysis.guidance.register``.
"""

from __future__ import annotations

import importlib
from importlib import metadata

FIGURES: dict[str, str] = {}
GROUP = "guidance_gradients"


def load() -> None:
    """Import the modules of installed packages that are named as entry points; raises what importing them raises."""
    for entry in metadata.entry_points(group=GROUP):
        importlib.import_module(entry.value)
