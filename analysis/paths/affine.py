r"""The base of all affine probability paths: coordinates, and conversions between predictions.

Time runs from noise (t = 0) to data (t = 1): :math:`X_t = \alpha_t X_1 + \sigma_t X_0`, :math:`X_0 \sim N(0, I)`.
Coordinates: :math:`\gamma = \alpha/\sigma` (0 to infinity), :math:`\zeta = \sigma/\alpha` (infinity to 0) and
:math:`\log\gamma` (log-SNR, halved by some authors).

Every prediction of a flow is a *readout* :math:`a\,\hat x_1 + b\,\hat x_0` of the target prediction
:math:`\hat x_1 = E[X_1 | X_t = x]` and the source prediction :math:`\hat x_0 = (x - \alpha \hat x_1)/\sigma`: target
(1, 0), source (0, 1), velocity (alpha', sigma'), score (0, -1/sigma), and a DDIM step to s is the readout (alpha_s,
sigma_s). Since :math:`x = \alpha\hat x_1 + \sigma\hat x_0` is known, one readout determines every other. As
:math:`\hat x_0 = -\sigma \nabla\log p_t`, the second term is also c times minus the score, with c = b sigma. c can be
finite where b is not, as for the velocity of linear VP and the score itself at t = 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from analysis import checks

PREDICTIONS = ("velocity", "target", "source", "score")


def expand(coefficient: Tensor, x: Tensor) -> Tensor:
    """Reshape a coefficient () or (B,) to broadcast against x (B, *event), in the dtype of x.

    A coefficient (B,) also moves to the device of x. A coefficient () may stay on the CPU, from where it multiplies
    tensors of any device.

    Returns
    -------
    Tensor
        () or (B, 1, ..., 1).
    """
    if not coefficient.ndim:
        return coefficient.to(x.dtype)
    return coefficient.reshape(coefficient.shape + (1,) * (x.ndim - coefficient.ndim)).to(x.device, x.dtype)


class Readout(NamedTuple):
    """Coefficients of the target prediction (a), the source prediction (b), and c = b sigma; each () or (B,)."""

    target: Tensor
    source: Tensor
    minus_score: Tensor


class AffinePath:
    """A pair of schedules. Subclasses give ``alpha``, ``sigma``, their derivatives and ``time_from_zeta``.

    Every method takes a float or a tensor of times in [0, 1] and returns a tensor of the same shape, float64 for
    floats. ``gamma`` is infinite where sigma is zero and ``zeta`` where alpha is. Times of another kind raise
    ``TypeError``, times outside [0, 1] ``ValueError``.
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
        """Return the time derivative of sigma; infinite where its limit is (linear VP at t = 1)."""
        return self._d_sigma(self._time(t))

    def sigma_d_sigma(self, t: Tensor | float) -> Tensor:
        """Return sigma times its derivative; finite where the limit of the product is."""
        return self._sigma_d_sigma(self._time(t))

    def gamma(self, t: Tensor | float) -> Tensor:
        """Return alpha/sigma."""
        return self.alpha(t) / self.sigma(t)

    def zeta(self, t: Tensor | float) -> Tensor:
        """Return sigma/alpha."""
        return self.sigma(t) / self.alpha(t)

    def radius(self, t: Tensor | float) -> Tensor:
        """Return sqrt(alpha^2 + sigma^2), the scale of states of unit variance."""
        return torch.hypot(self.alpha(t), self.sigma(t))

    def log_snr(self, t: Tensor | float) -> Tensor:
        """Return log(alpha/sigma)."""
        return self.alpha(t).log() - self.sigma(t).log()

    def time_from_zeta(self, zeta: Tensor | float) -> Tensor:
        """Invert ``zeta`` on [0, infinity], clamped to the path's own range; ``ValueError`` below 0 or for NaN."""
        zeta = self._coordinate(zeta, "zeta")
        if not checks.door_passed() and not bool((zeta >= 0).all()):
            raise ValueError("zeta must be at least 0 and not NaN")
        return self._time_from_zeta(zeta).clamp(0, 1)

    @staticmethod
    def _coordinate(value: Tensor | float, name: str) -> Tensor:
        if isinstance(value, Tensor) and checks.door_passed():
            return value.to(torch.float64)
        if isinstance(value, Tensor | np.ndarray):
            return checks.tensor(value, name).to(torch.float64)
        return torch.tensor(checks.number(name, value), dtype=torch.float64)

    def time_from_gamma(self, gamma: Tensor | float) -> Tensor:
        """Invert ``gamma`` on [0, infinity]; ``ValueError`` below 0 or for NaN."""
        return self.time_from_zeta(1 / self._coordinate(gamma, "gamma"))

    def time_from_log_snr(self, log_snr: Tensor | float) -> Tensor:
        """Invert ``log_snr``: any value, infinities included."""
        return self.time_from_zeta(torch.exp(-self._coordinate(log_snr, "log_snr")))

    def readout(self, prediction: str, t: Tensor | float) -> Readout:
        """Return the coefficients of a prediction named in ``PREDICTIONS`` at time t."""
        checks.known("prediction", prediction, PREDICTIONS)
        t = self._time(t)
        one, zero = torch.ones_like(t), torch.zeros_like(t)
        if prediction == "velocity":
            return Readout(self._d_alpha(t), self._d_sigma(t), self._sigma_d_sigma(t))
        if prediction == "score":
            return Readout(zero, -1 / self._sigma(t), -one)
        return Readout(one, zero, zero) if prediction == "target" else Readout(zero, one, self._sigma(t))

    def combination(self, target: Tensor, source: Tensor, t: Tensor) -> Readout:
        """Return the readout target * x1hat + source * x0hat at time t, for finite coefficients."""
        return Readout(target, source, source * self._sigma(t))

    def convert(self, value: Tensor, x: Tensor, t: Tensor | float, given: str, wanted: str) -> Tensor:
        """Convert a prediction ``value`` (B, *event) at state ``x`` and time ``t`` between two named predictions.

        Returns
        -------
        Tensor
            (B, *event).

        Raises
        ------
        TypeError
            For arguments of another kind.
        ValueError
            For an unknown prediction, and where ``value`` does not determine the wanted one, such as the velocity from
            the target at t = 1, which is 0/0.
        """
        value, x = checks.alike(value, x, ("value", "x"))
        t = checks.time(t, x.shape[:1], x.device)
        have, want = self.readout(given, t), self.readout(wanted, t)
        if given == wanted:
            return value
        if given == "score":  # the score is infinite at sigma = 0, the source prediction is not
            value, have = -expand(self._sigma(t), x) * value, self.readout("source", t)
        on_value, on_x = self.change_readout(t, have, want)
        return expand(on_value, x) * value + expand(on_x, x) * x

    def change_readout(self, t: Tensor, have: Readout, want: Readout) -> tuple[Tensor, Tensor]:
        """Find (p, q) with ``want = p * have + q * x``, by Cramer's rule on the readout and the state.

        Where sigma = 0 the state alone gives the target, where alpha = 0 the source.

        Returns
        -------
        tuple
            p and q, of the shape of t.

        Raises
        ------
        ValueError
            Where neither the state nor ``have`` determines ``want``. Inside an estimator, for times on a GPU, NaN or
            infinity takes the place of the error.
        """
        alpha, sigma = self._alpha(t), self._sigma(t)
        determinant = have.target * sigma - have.source * alpha
        on_value = (want.target * sigma - want.source * alpha) / determinant
        on_x = (want.source * have.target - want.target * have.source) / determinant
        product, asked = alpha * sigma, checks.may_ask(determinant)
        if asked and bool((torch.isfinite(on_value) & torch.isfinite(on_x) & (product != 0)).all()):
            return on_value, on_x
        same = (have.target == want.target) & (have.source == want.source)
        on_value, on_x = torch.where(same, 1.0, on_value), torch.where(same, 0.0, on_x)
        for weight, other, scale in ((want.target, want.source, alpha), (want.source, want.target, sigma)):
            alone = ~same & (scale != 0) & (other == 0) & (product == 0)
            on_value, on_x = torch.where(alone, 0.0, on_value), torch.where(alone, weight / scale, on_x)
        if asked and not bool((torch.isfinite(on_value) & torch.isfinite(on_x)).all()):
            raise ValueError(
                "t must lie where this prediction determines the other one: their ratio is 0/0 or infinite at "
                f"t in {t[~torch.isfinite(on_value + on_x)].unique().tolist() if t.ndim else t.item()}; a flow of a "
                "denoiser takes t_max below 1 for that, one of a noise predictor or score t_min above 0"
            )
        return on_value, on_x

    def states(self, times: Tensor, x1: Tensor, x0: Tensor) -> Tensor:
        """Compute X_t = alpha x1 + sigma x0 for each of the times (T,) in turn, from x1, x0 (n, *event).

        Returns
        -------
        Tensor
            (T * n, *event), time after time.

        Raises
        ------
        ValueError
            For times of another shape than (T,).
        """
        x1, x0 = checks.alike(x1, x0, ("x1", "x0"))
        times = checks.schedule_times(times, "times")
        if times.ndim != 1:
            raise ValueError(f"times must have shape (T,), got {tuple(times.shape)}")
        alpha, sigma = (expand(scale(times), x1[None]) for scale in (self.alpha, self.sigma))
        return (alpha * x1 + sigma * x0).flatten(0, 1)

    @staticmethod
    def _time(t: Tensor | float) -> Tensor:
        if isinstance(t, Tensor) and checks.door_passed():
            return t
        return checks.schedule_times(t)

    def _sigma_d_sigma(self, t: Tensor) -> Tensor:
        return self._sigma(t) * self._d_sigma(t)

    def _alpha(self, t: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} must define _alpha, _sigma, _d_alpha, _d_sigma, _time_from_zeta")

    _sigma = _d_alpha = _d_sigma = _time_from_zeta = _alpha


def at_equal_zeta(
    old: AffinePath, new: AffinePath, x: Tensor, t: Tensor, readout: Readout
) -> tuple[Tensor, Tensor, Readout]:
    """Return the factor of x, the time and the readout on the old path that stand for x, t, readout on the new one."""
    before = old.time_from_zeta(new.zeta(t))
    scale = old.radius(before) / new.radius(t)
    # The weight of the score is that of the source prediction times sigma, which is another one there.
    return expand(scale, x), before, readout._replace(minus_score=scale * readout.minus_score)
