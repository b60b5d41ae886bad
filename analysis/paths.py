r"""Affine probability paths, their coordinates, and conversions between predictions.

Time runs from noise (t = 0) to data (t = 1): :math:`X_t = \alpha_t X_1 + \sigma_t X_0`, :math:`X_0 \sim N(0, I)`.
Coordinates: :math:`\gamma = \alpha/\sigma` (0 to infinity), :math:`\zeta = \sigma/\alpha` (infinity to 0) and
:math:`\log\gamma` (log-SNR, halved by some authors).

Everything a flow can predict is a *readout* :math:`a\,\hat x_1 + b\,\hat x_0` of the target prediction
:math:`\hat x_1 = E[X_1 | X_t = x]` and the source prediction :math:`\hat x_0 = (x - \alpha \hat x_1)/\sigma`:
target (1, 0), source (0, 1), velocity (alpha', sigma'), score (0, -1/sigma), and a DDIM step to s is the readout
(alpha_s, sigma_s). Since :math:`x = \alpha\hat x_1 + \sigma\hat x_0` is known, one readout determines every other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import elementwise
from torch import Tensor

from analysis import checks

Schedule = Callable[[Tensor], Tensor]
Readout = tuple[Tensor, Tensor]
PREDICTIONS = ("velocity", "target", "source", "score")


def expand(coefficient: Tensor, x: Tensor) -> Tensor:
    """Append event axes to a coefficient of shape () or (B,), and give it the dtype of ``x``."""
    shape = coefficient.shape + (1,) * (x.ndim - coefficient.ndim if coefficient.ndim else 0)
    return coefficient.reshape(shape).to(x.dtype)


class AffinePath:
    """A pair of schedules. Subclasses give ``alpha``, ``sigma``, their derivatives and ``time_from_zeta``.

    Every method takes a float or a tensor of times in [0, 1] and returns a tensor of the same shape, float64 for
    floats. ``gamma`` is infinite where sigma is zero and ``zeta`` where alpha is.
    """

    def alpha(self, t: Tensor | float) -> Tensor:
        """Return the weight of the data at time t."""
        return self._alpha(self._time(t))

    def sigma(self, t: Tensor | float) -> Tensor:
        """Return the weight of the noise at time t."""
        return self._sigma(self._time(t))

    def d_alpha(self, t: Tensor | float) -> Tensor:
        """Return the time derivative of alpha."""
        return self._d_alpha(self._time(t))

    def d_sigma(self, t: Tensor | float) -> Tensor:
        """Return the time derivative of sigma; infinite where the limit is (linear VP at t = 1)."""
        return self._d_sigma(self._time(t))

    def gamma(self, t: Tensor | float) -> Tensor:
        """Return alpha/sigma."""
        return self.alpha(t) / self.sigma(t)

    def zeta(self, t: Tensor | float) -> Tensor:
        """Return sigma/alpha."""
        return self.sigma(t) / self.alpha(t)

    def log_snr(self, t: Tensor | float) -> Tensor:
        """Return log(alpha/sigma)."""
        return self.alpha(t).log() - self.sigma(t).log()

    def time_from_zeta(self, zeta: Tensor | float) -> Tensor:
        """Invert ``zeta``: values in [0, infinity]; those beyond the path's own range are clamped to its ends."""
        zeta = torch.as_tensor(zeta, dtype=torch.float64)
        if not bool((zeta >= 0).all()):
            raise ValueError("zeta must be at least 0 and not NaN")
        return self._time_from_zeta(zeta).clamp(0, 1)

    def time_from_gamma(self, gamma: Tensor | float) -> Tensor:
        """Invert ``gamma``: values in [0, infinity]."""
        return self.time_from_zeta(1 / torch.as_tensor(gamma, dtype=torch.float64))

    def time_from_log_snr(self, log_snr: Tensor | float) -> Tensor:
        """Invert ``log_snr``: any value, infinities included."""
        return self.time_from_zeta(torch.exp(-torch.as_tensor(log_snr, dtype=torch.float64)))

    def readout(self, prediction: str, t: Tensor | float) -> Readout:
        """Return the coefficients (a, b) of a prediction named in ``PREDICTIONS`` at time t."""
        checks.known("prediction", prediction, PREDICTIONS)
        t = self._time(t)
        one, zero = torch.ones_like(t), torch.zeros_like(t)
        if prediction == "velocity":
            return self._d_alpha(t), self._d_sigma(t)
        if prediction == "score":
            return zero, -1 / self._sigma(t)
        return (one, zero) if prediction == "target" else (zero, one)

    def convert(self, value: Tensor, x: Tensor, t: Tensor | float, source: str, to: str) -> Tensor:
        """Convert a prediction ``value`` (B, *event) at state ``x`` and time ``t`` between two named predictions.

        Raises ``ValueError`` where ``value`` does not determine the wanted prediction, such as the velocity from
        the target at t = 1, which is 0/0.
        """
        t = self._time(t)
        have, want = self.readout(source, t), self.readout(to, t)
        if source == "score":  # the score is infinite at sigma = 0, the source prediction is not
            value, have = -expand(self._sigma(t), x) * value, self.readout("source", t)
        on_value, on_x = self.change_readout(t, have, want)
        return expand(on_value, x) * value + expand(on_x, x) * x

    def change_readout(self, t: Tensor, have: Readout, want: Readout) -> tuple[Tensor, Tensor]:
        """Return (p, q) with ``want = p * have + q * x``, by Cramer's rule on the readout and the state."""
        alpha, sigma = self._alpha(t), self._sigma(t)
        determinant = have[0] * sigma - have[1] * alpha
        on_value = (want[0] * sigma - want[1] * alpha) / determinant
        on_x = (want[1] * have[0] - want[0] * have[1]) / determinant
        if not bool((torch.isfinite(on_value) & torch.isfinite(on_x)).all()):
            raise ValueError(
                "t must lie where this prediction determines the other one: their ratio is 0/0 or infinite at "
                f"t in {t[~torch.isfinite(on_value + on_x)].unique().tolist() if t.ndim else t.item()}"
            )
        return on_value, on_x

    @staticmethod
    def _time(t: Tensor | float) -> Tensor:
        t = t if isinstance(t, Tensor) else torch.tensor(t, dtype=torch.float64)
        return checks.time(t, tuple(t.shape), t.device).to(t.dtype)

    def _alpha(self, t: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} must define _alpha, _sigma, _d_alpha, _d_sigma, _time_from_zeta")

    _sigma = _d_alpha = _d_sigma = _time_from_zeta = _alpha


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
    affine path is this one after a change of time and scale.
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
    """Variance preserving with a linear noise rate (Song et al. 2021, arXiv 2011.13456); sigma' -> -inf at t = 1."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min < self.beta_max:
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

    def _time_from_zeta(self, zeta: Tensor) -> Tensor:
        c = torch.log1p(zeta.square()) / 2  # = -log alpha, a quadratic in v = 1 - t
        b = self.beta_min / 2
        return 1 - (2 * c / (b + (b * b + (self.beta_max - self.beta_min) * c).sqrt())).nan_to_num(posinf=1.0)


@dataclass(frozen=True)
class VarianceExploding(AffinePath):
    """Variance exploding, (1, sigma_max (1 - t)); the default sigma_max is EDM's (arXiv 2206.00364)."""

    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_max < math.inf:
            raise ValueError(f"sigma_max must be positive and finite, got {self.sigma_max}")

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
    """The polynomial path (t^n, 1 - t^n), n >= 1."""

    degree: float = 2.0

    def __post_init__(self) -> None:
        if not 1 <= self.degree < math.inf:
            raise ValueError(f"degree must be at least 1 and finite, got {self.degree}")

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


def derivative(schedule: Schedule) -> Schedule:
    """Return the derivative of an elementwise schedule, by forward-mode automatic differentiation."""
    return lambda t: torch.func.jvp(schedule, (t,), (torch.ones_like(t),))[1]


@dataclass(frozen=True)
class UserPath(AffinePath):
    """Any pair of elementwise torch callables; derivatives that are not given come from automatic differentiation.

    Raises ``ValueError`` unless alpha and sigma are finite and non-negative and zeta decreases strictly on [0, 1].
    """

    user_alpha: Schedule
    user_sigma: Schedule
    user_d_alpha: Schedule | None = None
    user_d_sigma: Schedule | None = None

    def __post_init__(self) -> None:
        t = torch.linspace(0, 1, 257, dtype=torch.float64)
        alpha, sigma = (
            checks.finite("user_alpha", self._alpha(t)),
            checks.finite("user_sigma", self._sigma(t)),
        )
        angle = torch.atan2(sigma, alpha)
        if alpha.shape != t.shape or sigma.shape != t.shape or bool((alpha < 0).any() | (sigma < 0).any()):
            raise ValueError("user_alpha and user_sigma must be elementwise and non-negative on [0, 1]")
        if not bool((angle.diff() < 0).all()):
            raise ValueError("user_alpha and user_sigma must make sigma/alpha strictly decreasing on [0, 1]")

    def _alpha(self, t: Tensor) -> Tensor:
        return self.user_alpha(t)

    def _sigma(self, t: Tensor) -> Tensor:
        return self.user_sigma(t)

    def _d_alpha(self, t: Tensor) -> Tensor:
        return (self.user_d_alpha or derivative(self.user_alpha))(t)

    def _d_sigma(self, t: Tensor) -> Tensor:
        return (self.user_d_sigma or derivative(self.user_sigma))(t)

    def _time_from_zeta(self, zeta: Tensor) -> Tensor:
        def excess(t: np.ndarray, angle: np.ndarray) -> np.ndarray:
            times = torch.as_tensor(t, dtype=torch.float64)
            return torch.atan2(self._sigma(times), self._alpha(times)).numpy() - angle

        ends = torch.atan2(self.sigma(torch.tensor([1.0, 0.0])), self.alpha(torch.tensor([1.0, 0.0]))).double()
        angle = torch.atan(zeta).clamp(*ends.tolist()).cpu().numpy()
        root = elementwise.find_root(excess, (np.zeros_like(angle), np.ones_like(angle)), args=(angle,))
        return torch.as_tensor(root.x, dtype=torch.float64).reshape(zeta.shape).to(zeta.device)


PATHS: dict[str, Callable[[], AffinePath]] = {
    "condot": CondOT,
    "cosine": Cosine,
    "vp_linear": LinearVP,
    "ve": VarianceExploding,
    "polynomial": Polynomial,
}
