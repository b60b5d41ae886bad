r"""What every affine probability path has: coordinates, and conversions between predictions.

Time runs from noise (t = 0) to data (t = 1): :math:`X_t = \alpha_t X_1 + \sigma_t X_0`, :math:`X_0 \sim N(0, I)`.
Coordinates: :math:`\gamma = \alpha/\sigma` (0 to infinity), :math:`\zeta = \sigma/\alpha` (infinity to 0) and
:math:`\log\gamma` (log-SNR, halved by some authors).

Everything a flow can predict is a *readout* :math:`a\,\hat x_1 + b\,\hat x_0` of the target prediction
:math:`\hat x_1 = E[X_1 | X_t = x]` and the source prediction :math:`\hat x_0 = (x - \alpha \hat x_1)/\sigma`:
target (1, 0), source (0, 1), velocity (alpha', sigma'), score (0, -1/sigma), and a DDIM step to s is the readout
(alpha_s, sigma_s). Since :math:`x = \alpha\hat x_1 + \sigma\hat x_0` is known, one readout determines every other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from analysis import checks

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
