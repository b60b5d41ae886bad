r"""Many Gaussian mixtures of equal shape as one batch, in zeta coordinates y = x/alpha, z = sigma/alpha.

In these coordinates the density of y is :math:`\sum_k w_k N(\mu_k, \Sigma_k)`, :math:`\Sigma_k = C_k + z^2 I`, and all
quantities follow from the scores of the components :math:`a_k = -P_k (y - \mu_k)`, :math:`P_k = \Sigma_k^{-1}`, under
the responsibilities r: score :math:`S = E[a]`, Hessian :math:`H = \mathrm{Cov}(a) - E[P]`, source prediction
:math:`\hat x_0 = -zS`. The density obeys the heat equation :math:`\partial_z p = z \Delta p`, hence
:math:`\partial_z S = z \nabla(\mathrm{tr} H + |S|^2)`, and along a trajectory

.. math:: y'' = \frac{d}{dz}(-zS) = -S - z^2 (\nabla \mathrm{tr} H + H S), \qquad
    \nabla \mathrm{tr} H = \mathrm{Cov}(a, |a|^2 - \mathrm{tr} P) - 2 E[P a] - 2 H S .

Source: this project (D1); the heat equation of Gaussian smoothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from toy_models.mixtures.gaussian import GaussianMixture


class StackedMixtures:
    """M mixtures of K components in d dimensions; a ``Field`` of ``analysis.bounds.remainder`` in float64.

    Raises
    ------
    ValueError
        Unless there is at least one mixture, and all have the same K and d.
    """

    def __init__(self, mixtures: Sequence[GaussianMixture]) -> None:
        shapes = {tuple(m.means.shape) for m in mixtures}
        if len(shapes) != 1:
            raise ValueError(f"mixtures must be at least one, all of one shape (K, d), got {sorted(shapes)}")
        self.log_weights = torch.stack([m.weights.log() for m in mixtures])
        self.means = torch.stack([m.means for m in mixtures])
        self.eigenvalues = torch.stack([m.eigenvalues for m in mixtures])
        self.eigenvectors = torch.stack([m.eigenvectors for m in mixtures])

    @property
    def scale(self) -> Tensor:
        """The smallest standard deviation of each mixture, (M,)."""
        return self.eigenvalues.amin((1, 2)).sqrt()

    def source(self, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return x0hat (M, B, d) and its Jacobian (M, B, d, d) in y (M, B, d), at z (M,)."""
        r, a, precision = self._components(y, z)
        mean = torch.einsum("mbk,mkbd->mbd", r, a)
        spread = a - mean[:, None]
        # Cov(a) as products of (d, K) and (K, d) matrices, one per state.
        left = (r.mT[..., None] * spread).permute(0, 2, 3, 1)
        hessian = left @ spread.transpose(1, 2) - (r @ precision.flatten(2)).unflatten(2, precision.shape[2:])
        return -z[:, None, None] * mean, -z[:, None, None, None] * hessian

    def curvature(self, y: Tensor, z: Tensor) -> Tensor:
        """Return y'' (M, B, d) along the trajectory through y (M, B, d) at z (M,)."""
        r, a, precision = self._components(y, z)
        r = r.mT[..., None]
        trace = precision.diagonal(dim1=2, dim2=3).sum(-1)[..., None, None]
        score = (r * a).sum(1, keepdim=True)
        spread = a - score
        precise = (r * (a @ precision)).sum(1)
        along = r * spread * (a.square().sum(-1, keepdim=True) - trace)
        hessian_score = (r * (spread * (spread * score).sum(-1, keepdim=True) - score @ precision)).sum(1)
        return -score[:, 0] - z[:, None, None].square() * (along.sum(1) - 2 * precise - hessian_score)

    def _components(self, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return r (M, B, K), a_k (M, K, B, d) and P_k (M, K, d, d)."""
        variance = self.eigenvalues + z[:, None, None].square()
        precision = (self.eigenvectors / variance[:, :, None]) @ self.eigenvectors.mT
        away = y[:, None] - self.means[:, :, None]
        a = -away @ precision
        joint = (self.log_weights - variance.log().sum(-1) / 2)[..., None] + (away * a).sum(-1) / 2
        return joint.softmax(1).mT, a, precision
