"""Random numbers, matrices and mixtures, of which families of problems are made."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from analysis.paths import AffinePath
from toy_models.mixtures.gaussian import GaussianMixture, MixtureFlow


def uniform(generator: Generator, low: float, high: float) -> float:
    """Draw a number between low and high."""
    return low + (high - low) * float(torch.rand((), dtype=torch.float64, generator=generator))


def log_uniform(generator: Generator, low: float, high: float) -> float:
    """Draw a log-uniform number between low and high."""
    return math.exp(uniform(generator, math.log(low), math.log(high)))


def integer(generator: Generator, low: int, high: int) -> int:
    """Draw an integer from low to high."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def normal(generator: Generator, *shape: int) -> Tensor:
    """Draw standard normal numbers of the given shape."""
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def equal_mixture(path: AffinePath, means: Tensor, covariances: Tensor) -> MixtureFlow:
    """Return centred modes (K, d) of equal weights, with covariances (K, d, d), along a path."""
    weights = means.new_full((len(means),), 1 / len(means))
    return MixtureFlow(GaussianMixture(weights, means - means.mean(0), covariances), path)


def isotropic(means: Tensor, variances: Tensor | float) -> Tensor:
    """Return isotropic covariances (K, d, d) for means (K, d), of one variance or (K,)."""
    eye = torch.eye(means.shape[1], dtype=means.dtype)
    return torch.as_tensor(variances, dtype=means.dtype).expand(len(means))[:, None, None] * eye


def uniforms(generator: Generator, count: int) -> Tensor:
    """Draw numbers (count,) in [0, 1)."""
    return torch.rand(count, dtype=torch.float64, generator=generator)


def log_uniforms(generator: Generator, count: int, low: float, high: float) -> Tensor:
    """Draw log-uniform numbers (count,)."""
    return torch.tensor([log_uniform(generator, low, high) for _ in range(count)], dtype=torch.float64)


def first_and_others(dim: int, first: float, others: float) -> Tensor:
    """Return variances (dim,) of which the first differs."""
    return torch.tensor([first, *[others] * (dim - 1)], dtype=torch.float64)


def rotated(rotation: Tensor, variances: Tensor) -> Tensor:
    """Return the covariance (d, d) with variances (d,) along the columns of a rotation (d, d)."""
    covariance = (rotation * variances) @ rotation.mT
    return (covariance + covariance.mT) / 2


def along_a_curve(path: AffinePath, means: Tensor, tangents: Tensor, length: float, width: float) -> MixtureFlow:
    """Return modes that are ``length`` long along their unit tangents (K, d), and ``width`` across."""
    across = width**2 * torch.eye(means.shape[1], dtype=means.dtype)
    return equal_mixture(path, means, across + length**2 * tangents[:, :, None] * tangents[:, None, :])


def weighted_mixture(path: AffinePath, weights: Tensor, means: Tensor, covariances: Tensor) -> MixtureFlow:
    """Return centred modes (K, d), with weights (K,) up to a factor and covariances (K, d, d), along a path."""
    weights = weights / weights.sum()
    return MixtureFlow(GaussianMixture(weights, means - weights @ means, covariances), path)
