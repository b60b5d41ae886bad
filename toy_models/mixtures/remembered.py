r"""The flow of a low-rank mixture, for solves that come back to the same times with few states.

A sampler that optimises a source or its controls solves over one mesh hundreds of times. What depends on the time alone
(the Cholesky factors of ``toy_models.mixtures.woodbury``, O(K d r^2)) is then most of the work, so the times last used
are remembered. States are multiplied by F_k itself, after scaling, so that no scaled copy of F_k is made for a time.
The values are those of ``LowRankMixtureFlow``.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.flow import Pullback
from analysis.paths import AffinePath, Readout
from toy_models.mixtures.low_rank import LowRankMixture, LowRankMixtureFlow

TIMES = 128  # K (d + r^2) numbers each


@dataclass(frozen=True, eq=False)
class _Time:
    """E_k^{-1/2} (K, 1, d), the Cholesky factor of M_k (K, r, r) and log|S_k| (K, 1) at one time."""

    alpha: Tensor
    sigma: Tensor
    root: Tensor
    cholesky: Tensor
    log_det: Tensor


class RememberedLowRankFlow(LowRankMixtureFlow):
    """The flow of a low-rank mixture along a path, which remembers ``TIMES`` times that all states share.

    Its copies on other paths, dtypes and devices do not remember, and it cannot be pickled.

    Raises
    ------
    TypeError
        For a mixture or path of another kind.
    """

    def __init__(
        self, mixture: LowRankMixture, path: AffinePath, dtype: torch.dtype = torch.float64, device: str = "cpu"
    ) -> None:
        super().__init__(mixture, path, dtype, device)
        self._at = functools.lru_cache(TIMES)(self._decomposed)

    def predict_vjp(self, x: Tensor, t: Tensor, readout: Readout) -> tuple[Tensor, Pullback]:
        """Return the readout (..., d) and its pullback; states with times of their own are as in the base class."""
        if t.ndim:
            return super().predict_vjp(x, t, readout)
        shape, m = x.shape, self._at(t.item())
        a, c = readout.target.to(x), readout.minus_score.to(x)
        log_joint, explained, y = self._parts(x.reshape(-1, shape[-1]), m)
        r = (self._log_weights[:, 0] + log_joint).softmax(0)
        own, along = self._gains(m, a, c)
        v = (own / m.root * y).addcmul_(a, explained).add_(a * self._means[:, 0])
        value = torch.einsum("kn,knd->nd", r, v)

        def pull(w: Tensor) -> Tensor:
            w = w.reshape(value.shape)
            spread = r * torch.einsum("knd,nd->kn", v - value, w)  # exactly zero where one component has all the weight
            p = self._latent(m, self._onto(m.alpha * m.root.square() * w))
            applied = self._along(p).mul_(along).addcmul_(own, w)
            pulled = torch.einsum("kn,knd->nd", r, applied) - torch.einsum("kn,knd->nd", spread, m.root * y)
            return pulled.reshape(shape)

        return value.reshape(shape), pull

    def _decomposed(self, t: float) -> _Time:
        m = self.marginals(torch.full((1, 1, 1), t, dtype=torch.float64, device=self.device))
        return _Time(m.alpha[0, 0, 0], m.sigma[0, 0, 0], m.root[:, 0], m.cholesky[:, 0], m.log_det()[:, 0])

    def _parts(self, x: Tensor, m: _Time) -> tuple[Tensor, Tensor, Tensor]:
        """Return log(N_k) less its constant (K, n), and F_k p_k and E_k^{1/2} q_k (K, n, d), of states x (n, d)."""
        scale = m.alpha * m.root
        y = torch.addcmul(-scale * self._means[:, 0], x, m.root)
        p = self._latent(m, self._onto(scale * y))
        explained = self._along(p)
        y = y.addcmul_(scale, explained, value=-1)
        size = torch.linalg.vector_norm(y, dim=-1) ** 2 + torch.linalg.vector_norm(p, dim=-1) ** 2
        return -(size + m.log_det) / 2, explained, y

    def _gains(self, m: _Time, a: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return h_k and a - alpha h_k, (K, 1, d), of B_k = h_k + (a - alpha h_k) F_k p_k."""
        precision = m.root.square()
        return (a * m.alpha * self._diagonals[:, 0] + c) * precision, (a * m.sigma**2 - m.alpha * c) * precision

    def _onto(self, rows: Tensor) -> Tensor:
        return rows @ self._factors[:, 0]

    def _along(self, p: Tensor) -> Tensor:
        return p @ self._factors[:, 0].mT

    def _latent(self, m: _Time, rows: Tensor) -> Tensor:
        return torch.cholesky_solve(rows.mT, m.cholesky).mT
