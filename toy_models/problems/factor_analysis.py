r"""Maximum-likelihood fits of a mixture of factor analysers, with a floor on the variances.

Each sweep of EM computes weights, means and covariances
:math:`C_k = \sum_n R_{nk} (x_n - \mu_k)(x_n - \mu_k)^T / \sum_n R_{nk}` from responsibilities R_nk, and improves F_k
and D_k by a few of Rubin & Thayer's steps: with :math:`\beta = F^T (F F^T + D)^{-1}`,

.. math:: F \leftarrow C\beta^T (I - \beta F + \beta C\beta^T)^{-1}, \qquad
    D \leftarrow \max(\mathrm{floor}, \mathrm{diag}(C - F\beta C)) .

scikit-learn's ``FactorAnalysis`` fits one component, without weights or a floor; a test compares the two. Sources:
Rubin & Thayer, *EM algorithms for ML factor analysis* (1982); Ghahramani & Hinton (1996), as in
``toy_models.mixtures.low_rank``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from toy_models.mixtures.low_rank import LowRankMixture
from toy_models.mixtures.woodbury import Marginals

BATCH = 250  # images per E-step, so that it holds (K, BATCH, d)


@dataclass(frozen=True)
class Settings:
    """Hyperparameters: the factors' rank r, and the least variance D of a pixel."""

    rank: int
    floor: float


def responsibilities(mixture: LowRankMixture, x: Tensor) -> Tensor:
    """Return the responsibilities p(k | x_n) (n, K) of data x (n, d)."""
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    parts = mixture.means[:, None, None], mixture.factors[:, None], mixture.diagonals[:, None, None]
    marginals = Marginals(one, 0 * one, *parts)
    logs = torch.cat([marginals.components(part[None])[0][:, 0] for part in x.split(BATCH)], 1)
    return (mixture.weights.log()[:, None] + logs).softmax(0).T


def weighted_covariances(x: Tensor, r: Tensor, means: Tensor) -> Tensor:
    """Return the covariances (K, d, d) of data x (n, d) under each column of the weights r (n, K)."""
    out = torch.empty(r.shape[1], x.shape[1], x.shape[1], dtype=x.dtype)
    for k, weight in enumerate(r.T):
        mine = weight > 1e-8  # in many dimensions almost every image has one component
        rows = (x[mine] - means[k]) * weight[mine, None].sqrt()
        out[k] = rows.T @ rows / weight.sum()
    return out


def improve(covariances: Tensor, factors: Tensor, diagonals: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """Return factors (K, d, r) and diagonals (K, d) after one step of EM on covariances (K, d, d)."""
    scaled = factors / diagonals[..., None]
    eye = torch.eye(factors.shape[2], dtype=factors.dtype)
    precision = eye + factors.mT @ scaled
    beta = torch.linalg.solve(precision, scaled.mT)
    cross = covariances @ beta.mT
    second = torch.linalg.inv(precision) + beta @ cross
    factors = torch.linalg.solve(second, cross.mT).mT
    return factors, (covariances.diagonal(dim1=1, dim2=2) - (factors * cross).sum(2)).clamp_min(floor)


def sweep(x: Tensor, r: Tensor, start: LowRankMixture | None, settings: Settings, steps: int) -> LowRankMixture:
    """Return the mixture after one M-step from responsibilities (n, K), with F and D from ``start`` or the data."""
    counts = r.sum(0)
    means = (r.T @ x) / counts[:, None]
    covariances = weighted_covariances(x, r, means)
    factors, diagonals = (start.factors, start.diagonals) if start else _principal(covariances, settings)
    for _ in range(steps):
        factors, diagonals = improve(covariances, factors, diagonals, settings.floor)
    return LowRankMixture(counts / counts.sum(), means, factors, diagonals)


def fit(
    x: Tensor, r: Tensor, settings: Settings, sweeps: int, steps: int, start: LowRankMixture | None = None
) -> LowRankMixture:
    """Fit a mixture to data x (n, d) by ``sweeps`` of EM.

    Parameters
    ----------
    r : initial responsibilities (n, K), used where there is no ``start``
    steps : steps of ``improve`` in each sweep
    start : the mixture to start from

    Returns
    -------
    LowRankMixture
        The fitted mixture.
    """
    for _ in range(sweeps):
        start = sweep(x, r if start is None else responsibilities(start, x), start, settings, steps)
    assert start is not None
    return canonical(start)


def canonical(mixture: LowRankMixture) -> LowRankMixture:
    """Return the same mixture with each component's factors orthogonal after scaling by D^{-1/2}, strongest first."""
    turn = torch.linalg.svd(mixture.diagonals.rsqrt()[..., None] * mixture.factors, full_matrices=False)[2].mT
    factors = mixture.factors @ turn
    largest = factors.gather(1, factors.abs().argmax(1, keepdim=True))
    return LowRankMixture(mixture.weights, mixture.means, factors * largest.sign(), mixture.diagonals)


def _principal(covariances: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """Return the start of the first sweep: the leading principal axes, and the variances that remain."""
    values, vectors = torch.linalg.eigh(covariances)
    factors = vectors[..., -settings.rank :] * values[:, None, -settings.rank :].clamp_min(0).sqrt()
    left = covariances.diagonal(dim1=1, dim2=2) - factors.square().sum(2)
    return factors, left.clamp_min(settings.floor)
