r"""Covariances of whitened measurements, :math:`G_k = I + H (\mathrm{diag}(D_k) + F_k F_k^T) H^T`, decomposed.

In general G_k (k, k) has no structure, and its Cholesky decomposition costs O(k^3). Where at most one row of H sees
each pixel, as in inpainting and in averages over blocks, :math:`H\,\mathrm{diag}(D_k) H^T` is diagonal. G_k is then
low-rank plus diagonal itself and costs O(k r^2) in the form of ``toy_models.mixtures.woodbury``, whose Woodbury
identity has the same conditioning: that of G_k scaled to a unit diagonal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from toy_models.mixtures.woodbury import Marginals


class Evidence(Protocol):
    """G_k of K components, decomposed."""

    def solved(self, misfit: Tensor) -> tuple[Tensor, Tensor]:
        """Return G_k^{-1} misfit (K, n, k) and log N(misfit; 0, G_k) less its constant, (K, n)."""

    def solved_by(self, j: int, misfit: Tensor) -> Tensor:
        """Return G_j^{-1} misfit (n, k) of one component."""


def separate(rows: Tensor) -> Tensor | None:
    """Zero entries of rows (k, d) at round-off level; return them if no column then has two non-zeros, else None."""
    small = rows.abs() <= 8 * torch.finfo(rows.dtype).eps * torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    cleaned = rows.masked_fill(small, 0.0)
    return cleaned if int((cleaned != 0).sum(0).max()) <= 1 else None


def evidence(rows: Tensor, diagonal: Tensor, factors: Tensor, separated: bool) -> Evidence:
    """Decompose G_k of rows H (k, d), D_k (K, 1, d) and F_k^T (K, r, d); ``separated`` if ``separate`` gave H."""
    observed = rows @ factors.mT
    if separated:
        return Factored.of(1 + diagonal @ rows.square().T, observed)
    eye = torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
    return Dense(torch.linalg.cholesky(eye + (rows * diagonal) @ rows.T + observed @ observed.mT))


@dataclass(frozen=True, eq=False)
class Dense:
    """The Cholesky factors (K, k, k) of G_k."""

    cholesky: Tensor

    def solved(self, misfit: Tensor) -> tuple[Tensor, Tensor]:
        """Return G_k^{-1} misfit (K, n, k) and log N(misfit; 0, G_k) less its constant, (K, n)."""
        half = torch.linalg.solve_triangular(self.cholesky, misfit.mT, upper=False)
        log_det = self.cholesky.diagonal(dim1=1, dim2=2).log().sum(1)
        evidence = -half.square().sum(1) / 2 - log_det[:, None]
        return torch.linalg.solve_triangular(self.cholesky.mT, half, upper=True).mT, evidence

    def solved_by(self, j: int, misfit: Tensor) -> Tensor:
        """Return G_j^{-1} misfit (n, k) of one component."""
        return torch.cholesky_solve(misfit.T, self.cholesky[j]).T


@dataclass(frozen=True, eq=False)
class Factored:
    """G_k = diag + O_k O_k^T, decomposed as ``woodbury.Marginals`` at alpha = 1, sigma = 0."""

    covariances: Marginals

    @classmethod
    def of(cls, diagonals: Tensor, factors: Tensor) -> Factored:
        """Build it from diagonals (K, 1, k) and O_k (K, k, r)."""
        one = torch.ones(1, 1, 1, dtype=diagonals.dtype, device=diagonals.device)
        diagonals = diagonals[:, None]
        return cls(Marginals(one, 0 * one, torch.zeros_like(diagonals), factors[:, None], diagonals))

    def solved(self, misfit: Tensor) -> tuple[Tensor, Tensor]:
        """Return G_k^{-1} misfit (K, n, k) and log N(misfit; 0, G_k) less its constant, (K, n)."""
        log_density, _, whitened = self.covariances.components(misfit[:, None])
        return (self.covariances.root * whitened)[:, 0], log_density[:, 0]

    def solved_by(self, j: int, misfit: Tensor) -> Tensor:
        """Return G_j^{-1} misfit (n, k) of one component."""
        whole, own = self.covariances, slice(j, j + 1)
        parts = {name: getattr(whole, name)[own] for name in ("means", "factors", "diagonals")}
        return Factored(replace(whole, **parts)).solved(misfit[None])[0][0]
