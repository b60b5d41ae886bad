"""Analytic flows, whose predictions, posteriors and (in part) maps have closed forms."""

from toy_models.mixtures.exact import GaussianFlow, ProductMixtureFlow, RadialMixtureFlow
from toy_models.mixtures.gaussian import GaussianMixture, MixtureFlow
from toy_models.mixtures.low_rank import LowRankMixture, LowRankMixtureFlow

__all__ = [
    "GaussianFlow",
    "GaussianMixture",
    "LowRankMixture",
    "LowRankMixtureFlow",
    "MixtureFlow",
    "ProductMixtureFlow",
    "RadialMixtureFlow",
]
