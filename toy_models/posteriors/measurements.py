"""Batches of measurements whose exact posteriors are known, under mixtures with full or low-rank covariances.

If the clean images are samples of the mixture, a calibrated sampler must have the mixture's posterior. For given images
the posterior is still that of the model, and samplers are judged by how well they sample it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from analysis import checks
from analysis.guidance.likelihood import Score
from analysis.measurements import ExactPosteriors, MeasuredBatch, Posteriors
from analysis.operators import InverseProblem
from analysis.paths import AffinePath
from toy_models.mixtures.conditioning import Components, measured, update
from toy_models.mixtures.gaussian import LOG_2PI, GaussianMixture
from toy_models.mixtures.low_rank import LowRankMixture, apply_own
from toy_models.posteriors.measurements_low_rank import LowRankPosteriors


@dataclass(frozen=True)
class DensePosteriors:
    """The posteriors of a mixture with full covariances, one for each of Y measurements."""

    mixture: GaussianMixture
    components: Components

    @classmethod
    def of(cls, mixture: GaussianMixture, problem: InverseProblem, y: Tensor) -> DensePosteriors:
        """Build the posteriors given measurements y (Y, m)."""
        rows, values = measured(mixture.dim, problem.linear, y, problem.noise_covariance)
        return cls(mixture, update(mixture.components(), rows, values))

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n samples (Y, n, d) of every posterior."""
        weights, means = self.components.log_weights.exp(), self.components.means
        k = torch.multinomial(weights, checks.count("n", n), replacement=True, generator=generator)
        z = torch.randn(*k.shape, means.shape[-1], dtype=torch.float64, generator=generator)
        scaled = (self.components.deviations[k] * z).flatten(0, 1)
        chosen = means.gather(1, k[..., None].expand(-1, -1, means.shape[-1]))
        return chosen + apply_own(self.components.directions, k.flatten(), scaled).reshape(chosen.shape)

    @property
    def mean(self) -> Tensor:
        """The exact posterior means, (Y, d)."""
        return torch.einsum("yk,ykd->yd", self.components.log_weights.exp(), self.components.means)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density (Y, n), in nats, of samples x (Y, n, d)."""
        deviations, directions = self.components.deviations, self.components.directions
        centres = torch.einsum("ykd,kdj->ykj", self.components.means, directions)
        whitened = (torch.einsum("ynd,kdj->ynkj", x, directions) - centres[:, None]) / deviations
        joint = self.components.log_weights[:, None] - whitened.square().sum(-1) / 2 - deviations.log().sum(-1)
        return joint.logsumexp(-1) - x.shape[-1] * LOG_2PI / 2

    def score(self, path: AffinePath, n: int) -> Score:
        """Return the exact score function grad_x log p(y | x_t), for flat batches of n samples per measurement."""
        weights, means = (v.repeat_interleave(n, 0) for v in (self.components.log_weights, self.components.means))
        posterior = Components(weights, means, self.components.deviations, self.components.directions)
        prior = self.mixture.components()

        def score(x: Tensor, t: Tensor) -> Tensor:
            at = x, path.alpha(t), path.sigma(t)
            return posterior.score(*at) - prior.score(*at)

        return score


def exact_posteriors(mixture: GaussianMixture | LowRankMixture, problem: InverseProblem, y: Tensor) -> Posteriors:
    """Return the posteriors of a mixture given measurements y (Y, m) of a linear problem."""
    if isinstance(mixture, LowRankMixture):
        return LowRankPosteriors.of(mixture, problem, y)
    return DensePosteriors.of(mixture, problem, y)


def measured_batch(
    mixture: GaussianMixture | LowRankMixture,
    problem: InverseProblem,
    clean: Tensor,
    generator: torch.Generator,
    *,
    members: int,
    exact: int,
) -> MeasuredBatch:
    """Measure each of the images (Y, d) once, and draw the initial noise and exact samples for a comparison.

    Parameters
    ----------
    mixture : the prior whose posterior is sampled
    problem : a linear inverse problem
    clean : images (Y, d)
    generator : on the CPU
    members, exact : numbers of samples per measurement: of a sampler, and of the exact posterior

    Returns
    -------
    MeasuredBatch
        The Y measurements, noise (Y * members, d), and exact posteriors with their samples.
    """
    y = problem.measure(clean, generator)
    law = exact_posteriors(mixture, problem, y)
    known = ExactPosteriors(law, law.sample(exact, generator), law.sample(members, generator))
    x0 = torch.randn(len(clean) * members, clean.shape[1], dtype=torch.float64, generator=generator)
    seed = int(torch.randint(2**31, (1,), generator=generator))
    return MeasuredBatch(problem, clean, y, x0, known=known, seed=seed)
