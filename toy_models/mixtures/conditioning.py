r"""A Gaussian mixture conditioned on a linear-Gaussian measurement, as a function of arrays.

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
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from analysis import losses
from analysis.operators import LinearOperator, as_matrix

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
        """Return grad log p_t (B, d) at x (B, d), for a path with alpha and sigma of shape () or (B,)."""
        alpha, sigma = (c.reshape(-1, 1, 1) for c in (alpha, sigma))
        variance = (alpha * self.deviations) ** 2 + sigma**2
        y = torch.einsum("bki,kij->bkj", x[:, None] - alpha * self.means, self.directions)
        r = (self.log_weights - (y.square() / variance + variance.log()).sum(-1) / 2).softmax(-1)
        return -torch.einsum("bk,kij,bkj->bi", r, self.directions, y / variance)


def measured(dim: int, A: Operator, y: Tensor, noise_covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Whiten a measurement: divide it by its noise and make its rows orthogonal.

    Returns
    -------
    tuple
        Rows (k, dim) with k <= dim, and values (k,) or (B, k), with noise of unit variance.

    Raises
    ------
    ValueError
        Unless A has shape (m, dim), and y and ``noise_covariance`` are of sizes to match; for entries that are not
        finite, and a covariance that is not symmetric positive definite.
    """
    rows, values = losses.whiten(as_matrix(A), y, noise_covariance, ("A", "y", "noise_covariance"))
    if rows.shape[1] != dim:
        raise ValueError(f"A must have shape (m, {dim}), as the mixture has {dim} dimensions; got {tuple(rows.shape)}")
    return losses.reduce(rows, values)


def update(prior: Components, rows: Tensor, values: Tensor) -> Components:
    """Return the posterior given rows (k, d) and values (Y, k) with unit noise; all measurements share the prior."""
    roots = prior.directions * prior.deviations[:, None, :]
    p, s, qh = torch.linalg.svd(rows @ roots)
    turned = roots @ qh.mT
    gain = 1 + torch.nn.functional.pad(s, (0, rows.shape[1] - s.shape[1])).square()
    z = torch.einsum("kij,yki->ykj", p, values[:, None] - prior.means[0] @ rows.T)
    spread = s.square().log1p() + z.square() / gain[:, : s.shape[1]]
    step = torch.einsum("kij,ykj->yki", turned[..., : s.shape[1]], s / gain[:, : s.shape[1]] * z)
    directions, deviations, _ = torch.linalg.svd(turned / gain.sqrt()[:, None, :])
    log_weights = (prior.log_weights[0] - spread.sum(-1) / 2).log_softmax(-1)
    return Components(log_weights, prior.means[0] + step, deviations.flip(-1), directions.flip(-1))
