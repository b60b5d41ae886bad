"""The exact posteriors of many measurements under a low-rank mixture at once; for ``posteriors.measurements``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from analysis import checks
from analysis.guidance.likelihood import Score
from analysis.operators import InverseProblem
from analysis.paths import AffinePath
from toy_models.mixtures.low_rank import LowRankMixture
from toy_models.posteriors.low_rank import Conditioned, LowRankLikelihood

BATCH = 400  # states whose density is computed at once, (K, BATCH, d) in memory


@dataclass(frozen=True, eq=False)
class LowRankPosteriors:
    """The posteriors of a low-rank mixture given measurements y (Y, m), whose covariances are never formed."""

    likelihood: LowRankLikelihood
    measurements: Tensor
    values: Tensor
    conditioned: Conditioned

    @classmethod
    def of(cls, mixture: LowRankMixture, problem: InverseProblem, y: Tensor) -> LowRankPosteriors:
        """Build the posteriors given measurements y (Y, m)."""
        likelihood = LowRankLikelihood(mixture, problem.linear, problem.noise_covariance)
        values = likelihood.values(y)
        return cls(likelihood, y, values, likelihood.conditioned(values))

    @property
    def mean(self) -> Tensor:
        """The exact posterior means, (Y, d)."""
        return torch.einsum("yk,ykd->yd", self.conditioned.weights, self.conditioned.means)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n samples (Y, n, d) of every posterior."""
        weights = self.conditioned.weights.cpu()
        k = torch.multinomial(weights, checks.count("n", n), replacement=True, generator=generator)
        x = self.likelihood.matheron(k.flatten(), self.values.repeat_interleave(n, 0), generator)
        return x.unflatten(0, k.shape)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density (Y, n), in nats, of samples x (Y, n, d)."""
        joint = [self.likelihood.mixture.log_prob(part) for part in x.flatten(0, 1).split(BATCH)]
        misfit = self.values[:, None] - x @ self.likelihood.rows.T
        log_prior = torch.cat(joint).unflatten(0, x.shape[:2])
        return log_prior - misfit.square().sum(-1) / 2 - self.conditioned.log_evidence[:, None]

    def score(self, path: AffinePath, n: int) -> Score:
        """Return the exact score function grad_x log p(y | x_t) along a path, for n samples per measurement."""
        y = self.measurements.repeat_interleave(n, 0)
        return lambda x, t: self.likelihood.score(path, y, x, t)
