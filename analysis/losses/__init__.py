"""Losses: any callable that maps x (B, *event) to one number per sample, (B,), differentiably.

The losses of this module take tensors, NumPy arrays and lists of numbers. Their values are in float32 where x is
narrower, since the squares of float16 numbers overflow from 256 on; gradients have the dtype of x.
"""

from analysis.losses.distances import HalfSquaredDistance, Linear
from analysis.losses.evaluation import (
    UNRELATED,
    Equivalent,
    Loss,
    WithGraph,
    value_and_gradient,
    values_and_gradients,
)
from analysis.losses.linear_gaussian import HalfSquaredResidual, LinearGaussian, reduce, whiten

__all__ = [
    "UNRELATED",
    "Equivalent",
    "HalfSquaredDistance",
    "HalfSquaredResidual",
    "Linear",
    "LinearGaussian",
    "Loss",
    "WithGraph",
    "reduce",
    "value_and_gradient",
    "values_and_gradients",
    "whiten",
]
