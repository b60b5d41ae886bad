"""Norms of batches without overflow or underflow of intermediate results, in any dtype.

The squares of float16 numbers overflow from 256 on, those of float32 numbers from 1.8e19 on. Vectors are therefore
widened to float32 at least, and divided by a power of two near their largest entry before they are squared. Such a
division is exact, so results are unchanged where no square would have left the range.
"""

from __future__ import annotations

import torch
from torch import Tensor


def widened(v: Tensor) -> Tensor:
    """Return v in float32 if its dtype is narrower, else v itself."""
    return v.to(torch.promote_types(v.dtype, torch.float32))


def scaled(v: Tensor) -> tuple[Tensor, Tensor]:
    """Return v (B, *event) as rows (B, n) with entries below 2, and the power of two (B,) that divided them."""
    rows = widened(v).flatten(1)
    largest = rows.abs().amax(1)
    usable = (largest > 0) & torch.isfinite(largest)
    power = torch.where(usable, largest / (2 * torch.frexp(largest)[0]), 1.0)
    return rows / power[:, None], power


def norms(v: Tensor) -> Tensor:
    """Compute the L2 norm of each sample of v (B, *event), in float32 or wider.

    It is infinite only if v is, or if the norm itself is too large for its dtype.

    Returns
    -------
    Tensor
        (B,).
    """
    rows, power = scaled(v)
    return power * torch.linalg.vector_norm(rows, dim=1)
