"""Estimators of the guidance gradient, one file per family, found by name in ``ESTIMATORS``.

Every module of this package is imported, so that a new file is a new family with no other change.
"""

import importlib
import pkgutil

from analysis.gradients._end_to_end import end_to_end
from analysis.gradients._greedy import greedy
from analysis.gradients._lookahead import lookahead
from analysis.gradients._surface import lookahead_surface
from analysis.gradients.registry import ESTIMATORS, Estimate, register

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

globals().update(ESTIMATORS)  # an estimator hides the module of its own name

__all__ = ["ESTIMATORS", "Estimate", "end_to_end", "greedy", "lookahead", "lookahead_surface", "register"]
