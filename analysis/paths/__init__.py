"""Affine probability paths: what all have (``affine``), the named ones (``schedules``), and those of a user.

A path of a user's own is ``UserPath(alpha, sigma)``, two functions of time; of a discrete schedule,
``from_alphas_cumprod`` or ``from_betas``. ``PATHS["name"] = MyPath``, a callable without arguments, adds a path to
those that experiments find by name.
"""

from analysis.paths.affine import PREDICTIONS, AffinePath, Readout, at_equal_zeta, expand
from analysis.paths.discrete import from_alphas_cumprod, from_betas
from analysis.paths.schedules import (
    PATHS,
    VPSDE,
    CondOT,
    Cosine,
    LinearVP,
    Polynomial,
    VarianceExploding,
)
from analysis.paths.user_path import Schedule, UserPath

__all__ = [
    "PATHS",
    "PREDICTIONS",
    "VPSDE",
    "AffinePath",
    "CondOT",
    "Cosine",
    "LinearVP",
    "Polynomial",
    "Readout",
    "Schedule",
    "UserPath",
    "VarianceExploding",
    "at_equal_zeta",
    "expand",
    "from_alphas_cumprod",
    "from_betas",
]
