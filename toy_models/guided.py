"""Inverse problems whose posterior is known, as guided samplers meet them: Y measurements at once, n samples for each.

States are flat batches of Y * n, measurement after measurement; sets of samples are (Y, n, d). Clean images are draws
of the mixture itself, so that its posterior is the one that a calibrated sampler must have.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from analysis import checks, judgement
from analysis.guidance.likelihood import Score
from analysis.losses import HalfSquaredResidual
from toy_models.low_rank import apply_own
from toy_models.mixture import LOG_2PI, MixtureFlow
from toy_models.operators import InverseProblem
from toy_models.posterior import Components, measured, prior, update

INTERVALS = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class Measured:
    """Measurements (Y, m) of clean images (Y, d), and the exact posterior of each.

    ``flow`` is that of the mixture of which the images are draws, ``problem`` how they are measured.
    """

    flow: MixtureFlow
    problem: InverseProblem
    clean: Tensor
    measurements: Tensor
    posterior: Components

    @classmethod
    def draw(cls, flow: MixtureFlow, problem: InverseProblem, count: int, generator: torch.Generator) -> Measured:
        """Draw ``count`` images and measure each of them once."""
        clean = flow.mixture.sample(checks.count("count", count), generator)
        y = problem.measure(clean, generator)
        rows, values = measured(flow.mixture.dim, problem.operator, y, problem.noise_covariance)
        return cls(flow, problem, clean, y, update(flow.mixture, rows, values))

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n samples of every exact posterior, (Y, n, d)."""
        weights, means = self.posterior.log_weights.exp(), self.posterior.means
        k = torch.multinomial(weights, checks.count("n", n), replacement=True, generator=generator)
        z = torch.randn(*k.shape, means.shape[-1], dtype=torch.float64, generator=generator)
        scaled = (self.posterior.deviations[k] * z).flatten(0, 1)
        chosen = means.gather(1, k[..., None].expand(-1, -1, means.shape[-1]))
        return chosen + apply_own(self.posterior.directions, k.flatten(), scaled).reshape(chosen.shape)

    @property
    def mean(self) -> Tensor:
        """The exact posterior means, (Y, d)."""
        return torch.einsum("yk,ykd->yd", self.posterior.log_weights.exp(), self.posterior.means)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density of samples x (Y, n, d) under the exact posteriors, (Y, n), in nats."""
        deviations, directions = self.posterior.deviations, self.posterior.directions
        centres = torch.einsum("ykd,kdj->ykj", self.posterior.means, directions)
        whitened = (torch.einsum("ynd,kdj->ynkj", x, directions) - centres[:, None]) / deviations
        joint = self.posterior.log_weights[:, None] - whitened.square().sum(-1) / 2 - deviations.log().sum(-1)
        return joint.logsumexp(-1) - x.shape[-1] * LOG_2PI / 2

    def loss(self, n: int) -> HalfSquaredResidual:
        """Return -log p(y | x), but for a constant, of flat batches of n samples per measurement."""
        repeated = self.measurements.repeat_interleave(n, 0)
        return HalfSquaredResidual(self.problem.operator.matrix(), repeated, noise=self.problem.noise)

    def score(self, n: int) -> Score:
        """Return the exact grad_x log p(y | x_t) of flat batches of n samples per measurement."""
        weights, means = (v.repeat_interleave(n, 0) for v in (self.posterior.log_weights, self.posterior.means))
        posterior = Components(weights, means, self.posterior.deviations, self.posterior.directions)
        without, path = prior(self.flow.mixture), self.flow.path

        def score(x: Tensor, t: Tensor) -> Tensor:
            place = x, path.alpha(t), path.sigma(t)
            return posterior.score(*place) - without.score(*place)

        return score

    def judge(self, x: Tensor, exact: Tensor) -> dict[str, Tensor]:
        """Return what sets of samples x (Y, n, d) are worth beside exact ones (Y, m, d): metric -> (Y,).

        Means are relative, densities in nats less those of the exact samples, misfits chi^2/m. "coverage_l" is the
        share of exact samples inside the central intervals of level l.
        """
        residuals = self.problem.operator(x.flatten(0, 1)).unflatten(0, x.shape[:2]) - self.measurements[:, None]
        found = {
            "sliced_wasserstein": judgement.sliced_wasserstein(x, exact),
            "energy_distance": judgement.energy_distance(x, exact),
            "mean_error": judgement.mean_error(x, self.mean),
            "log_density": self.log_prob(x).mean(1) - self.log_prob(exact).mean(1),
            "misfit": judgement.misfit(residuals, self.problem.noise),
        }
        shares = judgement.coverage(x, exact, INTERVALS)
        return found | {f"coverage_{level:g}": shares[:, i] for i, level in enumerate(INTERVALS)}
