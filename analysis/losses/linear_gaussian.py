"""Negative log-likelihoods of linear measurements with Gaussian noise."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import torch
from torch import Tensor

from analysis import checks
from analysis.losses.arrays import given
from analysis.norms import widened


def whiten(
    operator: Tensor,
    measurement: Tensor,
    noise_covariance: Tensor,
    names: tuple[str, str, str] = ("operator", "measurement", "noise_covariance"),
) -> tuple[Tensor, Tensor]:
    """Divide an operator and a measurement by their noise: with C C^T the noise covariance, multiply both by C^-1.

    Returns
    -------
    tuple
        C^-1 operator (m, d) and C^-1 measurement (..., m), in float64.

    Raises
    ------
    TypeError
        For arguments that are not arrays of real numbers.
    ValueError
        For shapes that do not agree, NaN, and a covariance that is not symmetric (to 1e-10 relative) and positive
        definite; the message names the argument as ``names`` does.
    """
    given = zip(names, (operator, measurement, noise_covariance), strict=True)
    a, y, r = (checks.array(value, name) for name, value in given)
    if a.ndim != 2 or 0 in a.shape:
        raise ValueError(f"{names[0]} must have shape (m, d), got {tuple(a.shape)}")
    m = len(a)
    if y.ndim not in (1, 2) or y.shape[-1] != m:
        raise ValueError(f"{names[1]} must have shape (m,) or (B, m) with m = {m}, got {tuple(y.shape)}")
    if tuple(r.shape) != (m, m):
        raise ValueError(f"{names[2]} must have shape {(m, m)}, got {tuple(r.shape)}")
    factor, failed = torch.linalg.cholesky_ex(r)
    if bool(((r - r.T).abs() > 1e-10 * r.abs().max()).any()) or int(failed):
        raise ValueError(f"{names[2]} must be symmetric and positive definite")
    whitened = torch.linalg.solve_triangular(factor, torch.cat([a, y.reshape(-1, m).T], 1), upper=False)
    return whitened[:, : a.shape[1]], whitened[:, a.shape[1] :].T.reshape(y.shape)


def reduce(rows: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return orthogonal rows (k, d), k = min(m, d), and values (..., k): |rows x - values|^2 changes by a constant."""
    u, s, vh = torch.linalg.svd(rows, full_matrices=False)
    return s[:, None] * vh, values @ u


@dataclass(frozen=True)
class LinearGaussian:
    """L(x) = (A x - y)^T R^-1 (A x - y) / 2 for flat events: the negative log-likelihood of y = A x + N(0, R).

    Shapes: ``operator`` A (m, d), ``measurement`` y (m,) or (B, m), ``noise_covariance`` R (m, m).

    Raises
    ------
    TypeError
        As ``whiten`` does.
    ValueError
        As ``whiten`` does; when called, for x of another shape than (B, d).
    """

    operator: Tensor
    measurement: Tensor
    noise_covariance: Tensor

    def __post_init__(self) -> None:
        for name in ("operator", "measurement", "noise_covariance"):
            object.__setattr__(self, name, given(name, getattr(self, name)))
        _ = self.whitened

    @functools.cached_property
    def whitened(self) -> tuple[Tensor, Tensor]:
        """The operator (m, d) and the measurement, (m,) or (B, m), in units in which the noise is N(0, I)."""
        return whiten(self.operator, self.measurement, self.noise_covariance)

    @functools.cached_property
    def reduced(self) -> tuple[Tensor, Tensor]:
        """The same with the least number of rows, which are orthogonal."""
        return reduce(*self.whitened)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the losses (B,) of x (B, d)."""
        return self._misfit(x, *self.whitened) / 2

    def _misfit(self, x: Tensor, rows: Tensor, values: Tensor) -> Tensor:
        if x.shape[-1] != rows.shape[1] or values.shape[:-1] not in (x.shape[:-1], ()):
            shapes = f"operator {tuple(rows.shape)} and measurement {tuple(values.shape)}"
            raise ValueError(f"{shapes} must fit x of shape (B, d), got {tuple(x.shape)}")
        wide = widened(x)
        return (wide @ rows.to(wide).T - values.to(wide)).square().sum(-1)


@dataclass(frozen=True)
class HalfSquaredResidual(LinearGaussian):
    """L(x) = |A x - y|^2 / (2 noise^2) for flat events: the negative log-likelihood of y = A x + noise N(0, I).

    Shapes: ``operator`` (m, d), ``measurement`` (m,) or (B, m), ``noise`` > 0 in the units of y.

    Raises
    ------
    TypeError
        For arguments that are not arrays or numbers.
    ValueError
        For shapes that do not agree, NaN, and noise that is not positive; when called, for x of another shape than (B,
        d).
    """

    noise_covariance: Tensor = field(init=False, repr=False)
    noise: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "noise", checks.positive("noise", self.noise))
        operator = given("operator", self.operator)
        identity = torch.eye(operator.shape[0] if operator.ndim else 1, dtype=torch.float64, device=operator.device)
        object.__setattr__(self, "noise_covariance", self.noise**2 * identity)
        super().__post_init__()

    def __call__(self, x: Tensor) -> Tensor:
        """Return the losses (B,) of x (B, d)."""
        return self._misfit(x, self.operator, self.measurement) / (2 * self.noise**2)
