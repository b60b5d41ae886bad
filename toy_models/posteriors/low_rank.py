r"""The exact posterior of a low-rank mixture under a linear-Gaussian measurement, and the exact likelihood score.

For :math:`y = A X_1 + N(0, R)`, let H = L^{-1} A and v = L^{-1} y with :math:`R = L L^T`, rotated so that the rows of H
are orthogonal. Given X_t = x, the law of X_1 under component k is (notation of ``toy_models.mixtures.woodbury``)

.. math:: N(e_k, \Sigma_k), \quad e_k = \mu_k + J_k (x - \alpha\mu_k), \quad J_k = \alpha C_k S_k^{-1}, \quad
    \Sigma_k = \sigma^2 C_k S_k^{-1} = \sigma^2 \frac{D_k}{E_k} + \hat F_k \hat F_k^T, \quad
    \hat F_k = \sigma^2 E_k^{-1} F_k M_k^{-1/2} :

low-rank plus diagonal again, without a subtraction. With :math:`G_k = I + H \Sigma_k H^T`, responsibilities r_k given
x, and :math:`\rho_k \propto r_k N(v; H e_k, G_k)` given x and y, the likelihood score (Doob's h) is

.. math:: \nabla_x \log p(y | x_t) = \sum_k \rho_k J_k H^T G_k^{-1} (v - H e_k) - \sum_k (\rho_k - r_k) q_k ,

finite at every t. The posterior is the case alpha = 0: :math:`e_k = \mu_k`, :math:`\Sigma_k = C_k`; it is sampled by
Matheron's rule, :math:`x + C_k H^T G_k^{-1} (v - H x - n)` with x from component k and n ~ N(0, I).

Small noise: as the rows of H are orthogonal, G_k scaled to a unit diagonal has a condition number of the order of that
of Sigma_k, whatever the noise, and the Cholesky decomposition's error depends on the scaled matrix only (Demmel 1989,
LAPACK working note 14). Sources: Bayes' rule; Journel & Huijbregts, *Mining Geostatistics* (1978), for Matheron's rule.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis import checks, losses
from analysis.operators import LinearOperator, as_matrix
from analysis.paths import AffinePath
from toy_models.mixtures.low_rank import LowRankMixture, LowRankMixtureFlow
from toy_models.mixtures.woodbury import Marginals
from toy_models.posteriors.evidence import Evidence, evidence, separate


class LowRankLikelihood:
    """p(y | x_t) for y = A X_1 + N(0, R) and a low-rank mixture; the parts of A and R alone are computed once.

    Parameters
    ----------
    mixture : the distribution of X_1
    A : (m, d), or an operator
    noise_covariance : R (m, m), symmetric positive definite

    Raises ``ValueError`` naming the argument for shapes that do not agree, NaN, and a covariance that is not symmetric
    positive definite.

    Raises
    ------
    ValueError
        For shapes that do not agree, NaN, and a covariance that is not symmetric positive definite; the message names
        the argument.
    """

    def __init__(self, mixture: LowRankMixture, A: Tensor | LinearOperator, noise_covariance: Tensor) -> None:
        matrix = as_matrix(A)
        units = torch.eye(len(matrix) if matrix.ndim else 1, dtype=torch.float64)
        rows, units = losses.whiten(matrix, units, noise_covariance, ("A", "y", "noise_covariance"))
        if rows.shape[1] != mixture.dim:
            expected = f"(m, {mixture.dim}), as the mixture has {mixture.dim} dimensions"
            raise ValueError(f"A must have shape {expected}; got {tuple(rows.shape)}")
        self.mixture = mixture
        rows, self._turn = losses.reduce(rows, units)
        separated = separate(rows)
        self.rows, self._separated = rows if separated is None else separated, separated is not None

    def values(self, y: Tensor) -> Tensor:
        """Whiten measurements y, (m,) or (B, m).

        Returns
        -------
        Tensor
            v, (k,) or (B, k).

        Raises
        ------
        ValueError
            For measurements of another shape, or not finite.
        """
        y, m = torch.as_tensor(y, dtype=torch.float64), len(self._turn)
        if y.ndim not in (1, 2) or y.shape[-1] != m:
            raise ValueError(f"y must have shape (m,) or (B, m) with m = {m}, got {tuple(y.shape)}")
        return checks.finite("y", y) @ self._turn

    def posterior(self, y: Tensor) -> LowRankPosterior:
        """Condition X_1 on one measurement y (m,).

        Returns
        -------
        LowRankPosterior
            a mixture of K Gaussians.

        Raises
        ------
        ValueError
            For a measurement of another shape, or not finite.
        """
        values = self.values(y)
        if values.ndim != 1:
            raise ValueError(f"y must have shape (m,), got {tuple(torch.as_tensor(y).shape)}")
        one = self.conditioned(values[None])
        return LowRankPosterior(self, values, one.weights[0], one.means[0], one.log_evidence[0])

    def conditioned(self, values: Tensor) -> Conditioned:
        """Return the posteriors' components given ``values`` (Y, k) of measurements."""
        mixture = self.mixture
        misfit = values - (mixture.means @ self.rows.T)[:, None]
        solved, log_evidence = self._prior_evidence.solved(misfit)
        back = solved @ self.rows
        latent = torch.einsum("kyd,kdr->kyr", back, mixture.factors)
        means = mixture.means[:, None] + latent @ mixture.factors.mT + mixture.diagonals[:, None] * back
        joint = (mixture.weights.log()[:, None] + log_evidence).T
        return Conditioned(joint.softmax(1), means.transpose(0, 1), joint.logsumexp(1))

    def matheron(self, k: Tensor, values: Tensor, generator: torch.Generator) -> Tensor:
        """Return one posterior sample (n, d) of each component in k (n,), given its own ``values`` (n, k)."""
        mixture = self.mixture
        x = mixture.sample_components(k, generator)
        noise = torch.randn(len(k), len(self.rows), dtype=torch.float64, generator=generator).to(x)
        k = k.to(x.device)
        misfit = values - x @ self.rows.T - noise
        for j in k.unique().tolist():  # one component after another: few have weight, and each has its own matrix
            here = (k == j).nonzero()[:, 0]
            back = self._prior_evidence.solved_by(j, misfit[here]) @ self.rows
            x[here] += (back @ mixture.factors[j]) @ mixture.factors[j].T + mixture.diagonals[j] * back
        return x

    def score(self, path: AffinePath, y: Tensor, x: Tensor, t: Tensor | float) -> Tensor:
        """Compute grad_x log p(y | X_t = x) for y (m,) or (B, m), x (B, d) and t a float or (B,).

        The m x m matrices are decomposed once per component and distinct time (``toy_models.posteriors.evidence``).

        Returns
        -------
        Tensor
            (B, d).

        Raises
        ------
        ValueError
            For arguments of other shapes, and a time outside [0, 1].
        """
        x, t = checks.state(x, (self.mixture.dim,)), checks.time(t, x.shape[:1], x.device)
        values = self.values(y)
        if values.ndim == 2 and len(values) != len(x):
            raise ValueError(f"y must have shape (m,) or (B, m) with B = {len(x)}, got {tuple(y.shape)}")
        values, x = values.expand(len(x), -1), x.double()
        out = torch.empty_like(x)
        # One time after another: memory must hold K matrices (m, m) at once, and not more.
        times, which = t.expand(len(x)).unique(return_inverse=True)
        flow = LowRankMixtureFlow(self.mixture, path)
        for i, time in enumerate(times):
            here = which == i
            out[here] = self._score(flow.marginals(time.reshape(1, 1, 1)), values[here], x[here])
        return out

    def _score(self, m: Marginals, values: Tensor, x: Tensor) -> Tensor:
        """Return the score at one time, (n, d), for values (n, k) and x (n, d)."""
        log_prior, p, y = m.components(x)
        one = torch.ones_like(m.alpha)
        e = m.posterior_means(one, 0 * one, p, y)
        solved, log_evidence = self._evidence(m).solved(values - (e @ self.rows.T)[:, 0])
        log_prior = self.mixture.weights.log()[:, None] + log_prior[:, 0]
        before, after = log_prior.softmax(0), (log_prior + log_evidence).softmax(0)
        back = after[..., None] * (solved @ self.rows)
        scale, factors = m.gains(one, 0 * one)
        latent = m.latent((back @ m.projection[:, 0])[:, None])
        update = (scale[:, 0] * back).sum(0) + torch.einsum("ktnr,ktdr->nd", latent, factors)
        return update - torch.einsum("kn,knd->nd", after - before, (m.root * y)[:, 0])

    @functools.cached_property
    def _prior_evidence(self) -> Evidence:
        m = self.mixture
        zero = torch.zeros(1, 1, 1, dtype=torch.float64, device=m.means.device)
        return self._evidence(
            Marginals(zero, zero + 1, m.means[:, None, None], m.factors[:, None], m.diagonals[:, None, None])
        )

    def _evidence(self, m: Marginals) -> Evidence:
        """Return G_k = I + H Sigma_k H^T at one time, decomposed."""
        shrunk = m.sigma**2 * m.root.square()
        factors = torch.linalg.solve_triangular(m.cholesky, (shrunk.mT * m.factors).mT, upper=False)[:, 0]
        return evidence(self.rows, (shrunk * m.diagonals)[:, 0], factors, self._separated)


@dataclass(frozen=True, eq=False)
class Conditioned:
    """Weights (Y, K) and means (Y, K, d) of the posteriors of Y measurements, and the logs (Y,) of their evidences.

    Evidences are of whitened values, and leave out the constant of a standard normal.
    """

    weights: Tensor
    means: Tensor
    log_evidence: Tensor


@dataclass(frozen=True, eq=False)
class LowRankPosterior:
    """The posterior of X_1 given one measurement: a mixture of K Gaussians, whose covariances are never formed.

    Attributes
    ----------
    weights, means : (K,) and (K, d)
    """

    likelihood: LowRankLikelihood
    values: Tensor
    weights: Tensor
    means: Tensor
    log_evidence: Tensor  # of ``values``, less the constant of a standard normal

    @property
    def mean(self) -> Tensor:
        """E[X_1 | y], (d,)."""
        return self.weights @ self.means

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the posterior log-density (B,) at x (B, d), in nats, by Bayes' rule."""
        prior = self.likelihood.mixture.log_prob(x)
        misfit = self.values - x @ self.likelihood.rows.T
        return prior - misfit.square().sum(1) / 2 - self.log_evidence

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n samples (n, d), drawn with an explicit CPU generator."""
        weights = self.weights.cpu()
        k = torch.multinomial(weights, checks.count("n", n), replacement=True, generator=generator)
        return self.likelihood.matheron(k, self.values.expand(n, -1), generator)
