r"""Low-rank-plus-diagonal covariances along a path, by Woodbury's identity.

:math:`C_k = F_k F_k^T + \mathrm{diag}(D_k)` with F_k (d, r). Along an affine path
:math:`S_k = \alpha^2 C_k + \sigma^2 I = E_k + \alpha^2 F_k F_k^T`, :math:`E_k = \alpha^2 D_k + \sigma^2`, and with
:math:`M_k = I + \alpha^2 F_k^T E_k^{-1} F_k` (r, r), for any vector z,

.. math:: p_k(z) = M_k^{-1} \alpha F_k^T E_k^{-1} z, \qquad S_k^{-1} z = E_k^{-1} (z - \alpha F_k p_k(z)), \qquad
    \log|S_k| = \log|E_k| + \log|M_k|, \qquad z^T S_k^{-1} z = |E_k^{-1/2}(z - \alpha F_k p_k)|^2 + |p_k|^2 .

The posterior mean p_k of the factors gives everything else:
:math:`\alpha C_k S_k^{-1} z = F_k p_k + \alpha D_k S_k^{-1} z`, hence for a readout
:math:`a\,\hat x_1 - c\nabla\log p_t` and :math:`B_k = (a\alpha C_k + cI) S_k^{-1}`

.. math:: B_k z = h_k z + (a - \alpha h_k) F_k p_k(z), \quad h_k = (a\alpha D_k + c)/E_k, \quad
    a - \alpha h_k = (a\sigma^2 - \alpha c)/E_k ,

with no division by alpha or sigma. A state costs O(K d r), and each distinct time O(K d r^2) once. Source: Woodbury's
identity; p_k is the factors' posterior mean of factor analysis (Rubin & Thayer, *Psychometrika* 47, 1982).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Marginals:
    """The covariances S_k of K components at T times, factored; states are laid out (K, T, n, d) or (T, n, d).

    Shapes: alpha, sigma (T, 1, 1); means (K, 1, 1, d); factors (K, 1, d, r); diagonals (K, 1, 1, d).
    """

    alpha: Tensor
    sigma: Tensor
    means: Tensor
    factors: Tensor
    diagonals: Tensor

    @functools.cached_property
    def root(self) -> Tensor:
        """E_k^{-1/2}, (K, T, 1, d)."""
        return (self.alpha**2 * self.diagonals + self.sigma**2).rsqrt()

    @functools.cached_property
    def whitened(self) -> Tensor:
        """W_k = alpha E_k^{-1/2} F_k, (K, T, d, r)."""
        return (self.alpha * self.root).mT * self.factors

    @functools.cached_property
    def cholesky(self) -> Tensor:
        """The Cholesky factor of M_k = I + W_k^T W_k, (K, T, r, r)."""
        eye = torch.eye(self.factors.shape[-1], dtype=self.factors.dtype, device=self.factors.device)
        return torch.linalg.cholesky(eye + self.whitened.mT @ self.whitened)

    @functools.cached_property
    def projection(self) -> Tensor:
        """The weights alpha E_k^{-1} F_k, (K, T, d, r): p_k(z) is M_k^{-1} times their transpose times z."""
        return self.root.mT * self.whitened

    def log_det(self) -> Tensor:
        """Return log|S_k|, (K, T, 1)."""
        return 2 * (self.cholesky.diagonal(dim1=-2, dim2=-1).log().sum(-1) - self.root.log().sum(-1)[..., 0])[..., None]

    def latent(self, projected: Tensor) -> Tensor:
        """Return M_k^{-1} of rows (K, T, n, r)."""
        return torch.cholesky_solve(projected.mT, self.cholesky).mT

    def components(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log N(x; alpha mu_k, S_k) less its constant (K, T, n), p_k (.., r) and E_k^{1/2} q_k (.., d)."""
        y = torch.addcmul(-self.alpha * self.means * self.root, x, self.root)
        p = self.latent(y @ self.whitened)
        y.flatten(0, 1).baddbmm_(p.flatten(0, 1), self.whitened.mT.flatten(0, 1), alpha=-1)
        size = torch.linalg.vector_norm(y, dim=-1) ** 2 + torch.linalg.vector_norm(p, dim=-1) ** 2
        return -(size + self.log_det()) / 2, p, y

    def posterior_means(self, a: Tensor, c: Tensor, p: Tensor, y: Tensor) -> Tensor:
        """Return v_k = a mu_k + B_k (x - alpha mu_k), (K, T, n, d)."""
        within = (a * self.alpha * self.diagonals + c) * self.root * y
        return torch.addcmul(within, a.expand_as(self.alpha), self.means + p @ self.factors.mT)

    def gains(self, a: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return the two parts of B_k: h_k (K, T, 1, d) and (a - alpha h_k) F_k (K, T, d, r)."""
        precision = self.root.square()
        on_factors = (a * self.sigma**2 - self.alpha * c) * precision
        return (a * self.alpha * self.diagonals + c) * precision, on_factors.mT * self.factors
