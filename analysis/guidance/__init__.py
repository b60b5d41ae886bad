"""Guided samplers, one file per family, found by name in ``SAMPLERS``.

Every module of this package is imported, so that a new file is a new family with no other change.
"""

import importlib
import pkgutil

from analysis.guidance.ladder import LADDER, ladder
from analysis.guidance.registry import SAMPLERS, Sample, register

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

globals().update(SAMPLERS)  # a sampler hides the module of its own name

__all__ = ["LADDER", "SAMPLERS", "Sample", "ladder", "register"]
