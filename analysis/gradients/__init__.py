"""Estimators of the guidance gradient, one file per family, registered by name in ``ESTIMATORS``.

Every module of this package is imported, so a new file adds a family without other changes; the estimators below are
imported by name for editors and type checkers.
"""

import importlib
import pkgutil

from analysis.gradients._adaptive import Choices, adaptive, choices
from analysis.gradients._adjoint import adjoint_backsolve, adjoint_cached, adjoint_interpolated
from analysis.gradients._adjoint_deis import adjoint_deis
from analysis.gradients._control import control_average, control_gradients
from analysis.gradients._dtmpd import dtmpd
from analysis.gradients._end_to_end import end_to_end
from analysis.gradients._greedy import greedy
from analysis.gradients._identity import identity_jacobian
from analysis.gradients._lookahead import lookahead
from analysis.gradients._pigdm import pigdm, tmpd
from analysis.gradients._smoothing import lgd
from analysis.gradients._surface import lookahead_surface
from analysis.gradients._truncated import truncated
from analysis.gradients.registry import ESTIMATORS, Estimate, register

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

globals().update(ESTIMATORS)  # an estimator hides the module of its own name

__all__ = [
    "ESTIMATORS",
    "Choices",
    "Estimate",
    "adaptive",
    "adjoint_backsolve",
    "adjoint_cached",
    "adjoint_deis",
    "adjoint_interpolated",
    "choices",
    "control_average",
    "control_gradients",
    "dtmpd",
    "end_to_end",
    "greedy",
    "identity_jacobian",
    "lgd",
    "lookahead",
    "lookahead_surface",
    "pigdm",
    "register",
    "tmpd",
    "truncated",
]
