r"""The exact posterior of a Gaussian mixture under a linear-Gaussian measurement, and the exact likelihood score.

For :math:`y = A X_1 + N(0, R)` and :math:`X_1 \sim \sum_k w_k N(\mu_k, C_k)` the posterior is again a mixture, with

.. math:: w_k' \propto w_k N(y; A\mu_k, A C_k A^T + R), \quad \mu_k' = \mu_k + K_k (y - A\mu_k), \quad
          C_k' = C_k - K_k A C_k, \quad K_k = C_k A^T (A C_k A^T + R)^{-1}.

It is computed in square-root form, which subtracts nothing: with :math:`R = L L^T`, :math:`C_k = F_k F_k^T`, the
singular value decomposition :math:`L^{-1} A F_k = P\,\mathrm{diag}(s)\,Q^T` and :math:`z = P^T L^{-1} (y - A \mu_k)`,

.. math:: C_k' = H_k H_k^T, \; H_k = F_k Q (1 + s^2)^{-1/2}, \quad \mu_k' = \mu_k + F_k Q \tfrac{s}{1 + s^2} z, \quad
          \log w_k' = \log w_k - \tfrac12 \sum \bigl[\log(1 + s^2) + \tfrac{z^2}{1 + s^2}\bigr] + \text{const}.

The eigen-decomposition of C_k' comes from the singular values of H_k: its standard deviations, and not its variances,
are right to round-off relative to the largest, so a noise of 1e-8 keeps about eight digits. Source: Bayes' rule;
square-root filtering as in Bierman, *Factorization Methods for Discrete Sequential Estimation* (1977).

The likelihood score (Doob's h) is the difference of two mixtures' scores along the path,

.. math:: \nabla_x \log p(y | x_t) = \nabla_x \log p_t(x | y) - \nabla_x \log p_t(x),

finite at every t: at sigma = 0 it is :math:`A^T R^{-1}(y - A x/\alpha)/\alpha`, at alpha = 0 it is 0 to round-off.
Low-rank mixtures, for large d, are in ``toy_models.low_rank_posterior``; the two functions here take both kinds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor

from analysis import losses
from analysis.flow import Flow
from toy_models.exact import ProductMixtureFlow
from toy_models.low_rank import LowRankMixture, LowRankMixtureFlow
from toy_models.low_rank_posterior import LowRankLikelihood, LowRankPosterior
from toy_models.mixture import GaussianMixture, MixtureFlow
from toy_models.operators import LinearOperator, as_matrix

Operator = Tensor | LinearOperator


@dataclass(frozen=True)
class Components:
    """A mixture whose weights and means may differ between samples: Y is 1 or B.

    Shapes: log_weights (Y, K), means (Y, K, d), deviations (K, d) and their directions (K, d, d), as columns.
    """

    log_weights: Tensor
    means: Tensor
    deviations: Tensor
    directions: Tensor

    def score(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return grad log p_t (B, d) at x (B, d) where the path has alpha, sigma, () or (B,)."""
        alpha, sigma = (c.reshape(-1, 1, 1) for c in (alpha, sigma))
        variance = (alpha * self.deviations) ** 2 + sigma**2
        y = torch.einsum("bki,kij->bkj", x[:, None] - alpha * self.means, self.directions)
        r = (self.log_weights - (y.square() / variance + variance.log()).sum(-1) / 2).softmax(-1)
        return -torch.einsum("bk,kij,bkj->bi", r, self.directions, y / variance)


def measured(dim: int, A: Operator, y: Tensor, noise_covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Return orthogonal rows (k, dim), k <= dim, and values (k,) or (B, k) of the measurement with unit noise."""
    rows, values = losses.whiten(as_matrix(A), y, noise_covariance, ("A", "y", "noise_covariance"))
    if rows.shape[1] != dim:
        raise ValueError(f"A must have shape (m, {dim}), as the mixture has {dim} dimensions; got {tuple(rows.shape)}")
    return losses.reduce(rows, values)


def prior(mixture: GaussianMixture) -> Components:
    """Return a mixture's components, shared by all samples."""
    shared = mixture.weights.log()[None], mixture.means[None]
    return Components(*shared, mixture.eigenvalues.sqrt(), mixture.eigenvectors)


def update(mixture: GaussianMixture, rows: Tensor, values: Tensor) -> Components:
    """Return the posterior's components given rows (k, d) and values (Y, k) of a measurement with unit noise."""
    roots = mixture.eigenvectors * mixture.eigenvalues.sqrt()[:, None, :]
    p, s, qh = torch.linalg.svd(rows @ roots)
    turned = roots @ qh.mT
    gain = 1 + torch.nn.functional.pad(s, (0, mixture.dim - s.shape[1])).square()
    z = torch.einsum("kij,yki->ykj", p, values[:, None] - mixture.means @ rows.T)
    spread = s.square().log1p() + z.square() / gain[:, : s.shape[1]]
    step = torch.einsum("kij,ykj->yki", turned[..., : s.shape[1]], s / gain[:, : s.shape[1]] * z)
    directions, deviations, _ = torch.linalg.svd(turned / gain.sqrt()[:, None, :])
    log_weights = (mixture.weights.log() - spread.sum(-1) / 2).log_softmax(-1)
    return Components(log_weights, mixture.means + step, deviations.flip(-1), directions.flip(-1))


@overload
def condition(mixture: GaussianMixture, A: Operator, y: Tensor, noise_covariance: Tensor) -> GaussianMixture: ...
@overload
def condition(mixture: LowRankMixture, A: Operator, y: Tensor, noise_covariance: Tensor) -> LowRankPosterior: ...
def condition(
    mixture: GaussianMixture | LowRankMixture, A: Operator, y: Tensor, noise_covariance: Tensor
) -> GaussianMixture | LowRankPosterior:
    """Return the posterior of X_1 given y = A X_1 + noise, noise ~ N(0, noise_covariance).

    Shapes: A (m, d), or a ``LinearOperator``; y (m,), noise_covariance (m, m), symmetric positive definite. Components
    of a ``GaussianMixture`` whose weight underflows float64 are left out. Raises ``ValueError`` naming the argument for
    shapes that do not agree, NaN, and a covariance that is not symmetric positive definite.
    """
    if isinstance(mixture, LowRankMixture):
        return LowRankLikelihood(mixture, A, noise_covariance).posterior(y)
    if torch.as_tensor(y).ndim != 1:
        raise ValueError(f"y must have shape (m,), got {tuple(torch.as_tensor(y).shape)}")
    rows, values = measured(mixture.dim, A, y, noise_covariance)
    found = update(mixture, rows, values[None])
    weights = found.log_weights[0].exp()
    kept = weights > 0
    eye = torch.eye(mixture.dim, dtype=torch.float64).expand(int(kept.sum()), -1, -1)
    posterior = GaussianMixture(weights[kept] / weights[kept].sum(), found.means[0, kept], eye)
    # The constructor decomposes dense covariances, which would lose what the square roots kept.
    posterior.eigenvalues, posterior.eigenvectors = found.deviations[kept].square(), found.directions[kept]
    return posterior


def likelihood_score(
    flow: Flow, A: Operator, y: Tensor, noise_covariance: Tensor, x: Tensor, t: Tensor | float
) -> Tensor:
    """Return grad_x log p(y | X_t = x), (B, d), in float64, exact for the flow of a mixture.

    Shapes: A (m, d), or a ``LinearOperator``; y (m,) or (B, m), noise_covariance (m, m), x (B, d), t a float or (B,) in
    [0, 1]. For a ``MixtureFlow`` the error is a few round-offs of the two scores whose difference it is, times the
    condition number of a component. Many calls with one A and R on a ``LowRankMixtureFlow`` are quicker through one
    ``LowRankLikelihood``. Raises ``ValueError`` as ``condition`` does, and for a flow that is not that of a mixture.
    """
    if not isinstance(flow, MixtureFlow | ProductMixtureFlow | LowRankMixtureFlow):
        raise ValueError(f"flow must be that of a Gaussian mixture, got {type(flow).__name__}")
    x, t = flow.checked(x, t)
    if isinstance(flow, LowRankMixtureFlow):
        return LowRankLikelihood(flow.mixture, A, noise_covariance).score(flow.path, y, x, t)
    mixture = flow.mixture() if isinstance(flow, ProductMixtureFlow) else flow.mixture
    rows, values = measured(mixture.dim, A, y, noise_covariance)
    if values.ndim == 2 and len(values) != len(x):
        raise ValueError(f"y must have shape (m,) or (B, m) with B = {len(x)}, got {tuple(torch.as_tensor(y).shape)}")
    posterior = update(mixture, rows, values.reshape(-1, len(rows)))
    place = x.double(), flow.path.alpha(t), flow.path.sigma(t)
    return posterior.score(*place) - prior(mixture).score(*place)
