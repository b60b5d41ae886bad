"""Measurement operators, linear and nonlinear, and their inverse problems with Gaussian noise."""

from analysis.operators.images import (
    OPERATORS,
    box_inpainting,
    compressed_sensing,
    gaussian_deblurring,
    motion_deblurring,
    random_inpainting,
    super_resolution,
    super_resolution_2,
    super_resolution_4,
)
from analysis.operators.linear import LinearOperator, as_matrix, from_forward, from_matrix
from analysis.operators.nonlinear import NONLINEAR, NonlinearOperator, hdr_clipping, nonlinear_blur
from analysis.operators.problem import HalfSquaredMisfit, InverseProblem, inverse_problem

__all__ = [
    "NONLINEAR",
    "OPERATORS",
    "HalfSquaredMisfit",
    "InverseProblem",
    "LinearOperator",
    "NonlinearOperator",
    "as_matrix",
    "box_inpainting",
    "compressed_sensing",
    "from_forward",
    "from_matrix",
    "gaussian_deblurring",
    "hdr_clipping",
    "inverse_problem",
    "motion_deblurring",
    "nonlinear_blur",
    "random_inpainting",
    "super_resolution",
    "super_resolution_2",
    "super_resolution_4",
]
