"""Analytic flows: everything about them has a closed form."""

from toy_models.exact import GaussianFlow, ProductMixtureFlow, RadialMixtureFlow
from toy_models.low_rank import LowRankMixture, LowRankMixtureFlow
from toy_models.mixture import GaussianMixture, MixtureFlow

__all__ = [
    "GaussianFlow",
    "GaussianMixture",
    "LowRankMixture",
    "LowRankMixtureFlow",
    "MixtureFlow",
    "ProductMixtureFlow",
    "RadialMixtureFlow",
]
