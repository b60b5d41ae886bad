"""Affine probability paths: what all have (``affine``), the named ones (``schedules``), and those of a user."""

from analysis.paths.affine import PREDICTIONS, AffinePath, Readout, at_equal_zeta, expand
from analysis.paths.schedules import (
    PATHS,
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
]
