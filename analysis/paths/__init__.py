"""Affine probability paths: what all of them have (``affine``), and the schedules of each (``schedules``)."""

from analysis.paths.affine import PREDICTIONS, AffinePath, Readout, expand
from analysis.paths.schedules import (
    PATHS,
    CondOT,
    Cosine,
    LinearVP,
    Polynomial,
    Schedule,
    UserPath,
    VarianceExploding,
)

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
    "expand",
]
