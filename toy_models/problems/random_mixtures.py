"""Random Gaussian mixtures over wide ranges of spread, scale and condition."""

from __future__ import annotations

import torch

from toy_models.mixtures.gaussian import GaussianMixture
from toy_models.problems import zoo


def random_mixture(dim: int, count: int, generator: torch.Generator) -> GaussianMixture:
    """Draw a mixture: condition numbers up to 1e4, means spread over 0.3 to 5, component scales over a decade."""
    condition, spread, *scales = torch.rand(count + 2, dtype=torch.float64, generator=generator).tolist()
    means = 0.3 * (5 / 0.3) ** spread * torch.randn(count, dim, dtype=torch.float64, generator=generator)
    covariances = zoo.random_covariances(count, dim, 1e4**condition, 1.0, generator)
    covariances = covariances * 10.0 ** -torch.tensor(scales, dtype=torch.float64)[:, None, None]
    weights = -torch.rand(count, dtype=torch.float64, generator=generator).clamp_min(1e-12).log()  # Dirichlet(1)
    return GaussianMixture(weights / weights.sum(), means, covariances)
