"""Inverse problems whose posterior is known, as guided samplers meet them: Y measurements at once, n samples for each.

States are flat batches of Y * n, measurement after measurement; sets of samples are (Y, n, d). Where clean images are
draws of the mixture itself, its posterior is the one that a calibrated sampler must have; where they are given, it is
still what the model says of them, and samplers are judged on how well they sample it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from analysis import checks, sample_distances
from analysis.guidance.likelihood import Score
from analysis.losses import HalfSquaredResidual
from analysis.operators import InverseProblem
from analysis.paths import AffinePath
from toy_models.mixtures.conditioning import Components, measured, update
from toy_models.mixtures.gaussian import LOG_2PI, GaussianMixture, MixtureFlow
from toy_models.mixtures.low_rank import LowRankMixtureFlow, apply_own
from toy_models.posteriors.measurements_low_rank import LowRankPosteriors

INTERVALS = (0.1, 0.3, 0.5, 0.7, 0.9)


class Posteriors(Protocol):
    """The exact posteriors of Y measurements: their means (Y, d), samples, densities and likelihood scores."""

    @property
    def mean(self) -> Tensor:
        """The exact posterior means, (Y, d)."""

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n samples of every posterior, (Y, n, d), drawn with an explicit CPU generator."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density of samples x (Y, n, d), (Y, n), in nats."""

    def score(self, path: AffinePath, n: int) -> Score:
        """Return the exact grad_x log p(y | x_t) along a path, of flat batches of n samples per measurement."""


@dataclass(frozen=True)
class DensePosteriors:
    """The posteriors of a mixture with full covariances: ``components`` of each measurement (``posterior.update``)."""

    mixture: GaussianMixture
    components: Components

    @classmethod
    def of(cls, mixture: GaussianMixture, problem: InverseProblem, y: Tensor) -> DensePosteriors:
        """Return the posteriors given measurements y (Y, m)."""
        rows, values = measured(mixture.dim, problem.operator, y, problem.noise_covariance)
        return cls(mixture, update(mixture.components(), rows, values))

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n samples of every posterior, (Y, n, d)."""
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
        """Return the log-density of samples x (Y, n, d), (Y, n), in nats."""
        deviations, directions = self.components.deviations, self.components.directions
        centres = torch.einsum("ykd,kdj->ykj", self.components.means, directions)
        whitened = (torch.einsum("ynd,kdj->ynkj", x, directions) - centres[:, None]) / deviations
        joint = self.components.log_weights[:, None] - whitened.square().sum(-1) / 2 - deviations.log().sum(-1)
        return joint.logsumexp(-1) - x.shape[-1] * LOG_2PI / 2

    def score(self, path: AffinePath, n: int) -> Score:
        """Return the exact grad_x log p(y | x_t) of flat batches of n samples per measurement."""
        weights, means = (v.repeat_interleave(n, 0) for v in (self.components.log_weights, self.components.means))
        posterior = Components(weights, means, self.components.deviations, self.components.directions)
        without = self.mixture.components()

        def score(x: Tensor, t: Tensor) -> Tensor:
            place = x, path.alpha(t), path.sigma(t)
            return posterior.score(*place) - without.score(*place)

        return score


@dataclass(frozen=True)
class Measured:
    """Measurements (Y, m) of clean images (Y, d), and the exact posterior of each.

    ``flow`` is that of the mixture whose posterior it is, with full or low-rank covariances; ``problem`` says how
    images are measured.
    """

    flow: MixtureFlow | LowRankMixtureFlow
    problem: InverseProblem
    clean: Tensor
    measurements: Tensor
    posterior: Posteriors

    @classmethod
    def draw(
        cls, flow: MixtureFlow | LowRankMixtureFlow, problem: InverseProblem, count: int, generator: torch.Generator
    ) -> Measured:
        """Draw ``count`` images of the mixture and measure each of them once."""
        return cls.of(flow, problem, flow.mixture.sample(checks.count("count", count), generator), generator)

    @classmethod
    def of(
        cls, flow: MixtureFlow | LowRankMixtureFlow, problem: InverseProblem, clean: Tensor, generator: torch.Generator
    ) -> Measured:
        """Measure each of the given images (Y, d) once."""
        y = problem.measure(clean, generator)
        if isinstance(flow, LowRankMixtureFlow):
            return cls(flow, problem, clean, y, LowRankPosteriors.of(flow.mixture, problem, y))
        return cls(flow, problem, clean, y, DensePosteriors.of(flow.mixture, problem, y))

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n samples of every exact posterior, (Y, n, d)."""
        return self.posterior.sample(n, generator)

    @property
    def mean(self) -> Tensor:
        """The exact posterior means, (Y, d)."""
        return self.posterior.mean

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density of samples x (Y, n, d) under the exact posteriors, (Y, n), in nats."""
        return self.posterior.log_prob(x)

    def loss(self, n: int) -> HalfSquaredResidual:
        """Return -log p(y | x), but for a constant, of flat batches of n samples per measurement."""
        repeated = self.measurements.repeat_interleave(n, 0)
        return HalfSquaredResidual(self.problem.operator.matrix(), repeated, noise=self.problem.noise)

    def score(self, n: int) -> Score:
        """Return the exact grad_x log p(y | x_t) of flat batches of n samples per measurement."""
        return self.posterior.score(self.flow.path, n)

    def judge(self, x: Tensor, exact: Tensor) -> dict[str, Tensor]:
        """Return what sets of samples x (Y, n, d) are worth beside exact ones (Y, m, d): metric -> (Y,).

        Means are relative, densities in nats less those of the exact samples, misfits chi^2/m. "coverage_l" is the
        share of exact samples inside the central intervals of level l.
        """
        residuals = self.problem.operator(x.flatten(0, 1)).unflatten(0, x.shape[:2]) - self.measurements[:, None]
        found = {
            "sliced_wasserstein": sample_distances.sliced_wasserstein(x, exact),
            "energy_distance": sample_distances.energy_distance(x, exact),
            "mean_error": sample_distances.mean_error(x, self.mean),
            "log_density": self.log_prob(x).mean(1) - self.log_prob(exact).mean(1),
            "misfit": sample_distances.misfit(residuals, self.problem.noise),
        }
        shares = sample_distances.coverage(x, exact, INTERVALS)
        return found | {f"coverage_{level:g}": shares[:, i] for i, level in enumerate(INTERVALS)}
