"""A mixture's components in their eigenbases: the arrays that its flow and its fused solves share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Eigenbasis:
    """K components in d dimensions, each in its own eigenbasis U_k, in one dtype and on one device.

    Attributes
    ----------
    into : (d, K d), ``x @ into`` rotates x into all bases at once
    means, variances : (K, d), the means and the eigenvalues of the covariances in these bases
    centres : (K, d), the means in the coordinates of x
    log_weights : (K,)
    """

    into: Tensor
    means: Tensor
    variances: Tensor
    centres: Tensor
    log_weights: Tensor

    @classmethod
    def of(
        cls,
        weights: Tensor,
        means: Tensor,
        eigenvalues: Tensor,
        eigenvectors: Tensor,
        dtype: torch.dtype,
        device: str,
    ) -> Eigenbasis:
        """Build it from weights (K,), means and eigenvalues (K, d), and eigenvectors (K, d, d) as columns."""
        k, d = means.shape
        into = eigenvectors.permute(1, 0, 2).reshape(d, k * d)
        rotated = torch.einsum("kij,ki->kj", eigenvectors, means)
        parts = into, rotated, eigenvalues, means, weights.log()
        return cls(*(part.to(device, dtype) for part in parts))
