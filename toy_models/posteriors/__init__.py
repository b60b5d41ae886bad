"""Exact posteriors of mixtures under linear-Gaussian measurements, and exact likelihood scores."""

from toy_models.posteriors.dense import condition, likelihood_score

__all__ = ["condition", "likelihood_score"]
