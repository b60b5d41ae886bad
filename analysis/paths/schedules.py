"""The named affine probability paths (alpha_t, sigma_t).

A path is a class with its schedules, their derivatives and the inverse of zeta = sigma/alpha, registered in ``PATHS``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis import checks
from analysis.paths.affine import AffinePath


@dataclass(frozen=True)
class CondOT(AffinePath):
    """Conditional optimal transport, (t, 1 - t) (Lipman et al. 2023, arXiv 2210.02747)."""

    def _alpha(self, t: Tensor) -> Tensor:
        return t

    def _sigma(self, t: Tensor) -> Tensor:
        return 1 - t

    def _d_alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def _d_sigma(self, t: Tensor) -> Tensor:
        return -torch.ones_like(t)

    def _time_from_zeta(self, zeta: Tensor) -> Tensor:
        return 1 / (1 + zeta)


@dataclass(frozen=True)
class Cosine(AffinePath):
    """The cosine path (sin(pi t/2), cos(pi t/2)) (Albergo & Vanden-Eijnden 2023, arXiv 2209.15571).

    With alpha^2 + sigma^2 = 1 and bounded derivatives at both ends it is also the canonical parametrisation: every
    affine path becomes this one by a change of time and scale.
    """

    def _alpha(self, t: Tensor) -> Tensor:
        return torch.sin(math.pi / 2 * t)

    def _sigma(self, t: Tensor) -> Tensor:
        return torch.sin(math.pi / 2 * (1 - t))  # cos(pi t/2), but exactly zero at t = 1

    def _d_alpha(self, t: Tensor) -> Tensor:
        return math.pi / 2 * self._sigma(t)

    def _d_sigma(self, t: Tensor) -> Tensor:
        return -math.pi / 2 * self._alpha(t)

    def _time_from_zeta(self, zeta: Tensor) -> Tensor:
        return 1 - 2 / math.pi * torch.atan(zeta)


@dataclass(frozen=True)
class LinearVP(AffinePath):
    """The VP-SDE: variance preserving with a linear noise rate (arXiv 2011.13456); sigma' -> -inf at t = 1.

    ``beta_min`` and ``beta_max`` are the rates at the data and at the noise, per unit of time. ``VPSDE`` is the same.

    Raises
    ------
    ValueError
        Unless 0 < beta_min < beta_max < infinity.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        for name in ("beta_min", "beta_max"):
            object.__setattr__(self, name, checks.positive(name, getattr(self, name)))
        if not self.beta_min < self.beta_max:
            raise ValueError(f"beta_min, beta_max must satisfy 0 < beta_min < beta_max, got {self}")

    def _log_alpha(self, t: Tensor) -> Tensor:
        v = 1 - t
        return -v * (v * (self.beta_max - self.beta_min) / 4 + self.beta_min / 2)

    def _alpha(self, t: Tensor) -> Tensor:
        return self._log_alpha(t).exp()

    def _sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(2 * self._log_alpha(t))).sqrt()

    def _d_alpha(self, t: Tensor) -> Tensor:
        rate = (1 - t) * (self.beta_max - self.beta_min) / 2 + self.beta_min / 2
        return rate * self._alpha(t)

    def _d_sigma(self, t: Tensor) -> Tensor:
        return -self._alpha(t) * self._d_alpha(t) / self._sigma(t)

    def _sigma_d_sigma(self, t: Tensor) -> Tensor:
        return -self._alpha(t) * self._d_alpha(t)  # alpha^2 + sigma^2 = 1

    def _time_from_zeta(self, zeta: Tensor) -> Tensor:
        farthest = -self._log_alpha(torch.zeros_like(zeta))
        c = (torch.log1p(zeta.square()) / 2).minimum(farthest)  # = -log alpha, a quadratic in v = 1 - t
        b = self.beta_min / 2
        return 1 - 2 * c / (b + (b * b + (self.beta_max - self.beta_min) * c).sqrt())


VPSDE = LinearVP


@dataclass(frozen=True)
class VarianceExploding(AffinePath):
    """Variance exploding, (1, sigma_max (1 - t)); the default sigma_max is EDM's (arXiv 2206.00364).

    Raises
    ------
    ValueError
        For a ``sigma_max`` that is not positive and finite.
    """

    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigma_max", checks.positive("sigma_max", self.sigma_max))

    def _alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def _sigma(self, t: Tensor) -> Tensor:
        return self.sigma_max * (1 - t)

    def _d_alpha(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def _d_sigma(self, t: Tensor) -> Tensor:
        return torch.full_like(t, -self.sigma_max)

    def _time_from_zeta(self, zeta: Tensor) -> Tensor:
        return 1 - zeta / self.sigma_max


@dataclass(frozen=True)
class Polynomial(AffinePath):
    """The polynomial path (t^n, 1 - t^n), n >= 1.

    Raises
    ------
    ValueError
        For a degree below 1 or not finite.
    """

    degree: float = 2.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "degree", checks.at_least("degree", self.degree, 1))

    def _alpha(self, t: Tensor) -> Tensor:
        return t**self.degree

    def _sigma(self, t: Tensor) -> Tensor:
        return 1 - t**self.degree

    def _d_alpha(self, t: Tensor) -> Tensor:
        return self.degree * t ** (self.degree - 1)

    def _d_sigma(self, t: Tensor) -> Tensor:
        return -self._d_alpha(t)

    def _time_from_zeta(self, zeta: Tensor) -> Tensor:
        return (1 + zeta) ** (-1 / self.degree)


PATHS: checks.Registry[Callable[[], AffinePath]] = checks.Registry(
    "path",
    {
        "condot": CondOT,
        "cosine": Cosine,
        "vp_linear": LinearVP,
        "ve": VarianceExploding,
        "polynomial": Polynomial,
    },
)
