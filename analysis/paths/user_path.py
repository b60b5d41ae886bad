"""A path of any two schedules: derivatives by automatic differentiation, and zeta inverted numerically."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import elementwise
from torch import Tensor

from analysis import checks
from analysis.paths.affine import AffinePath

Schedule = Callable[[Tensor], Tensor]
CELLS = 4096  # of the table of brackets


def derivative(schedule: Schedule) -> Schedule:
    """Return the derivative of an elementwise schedule, by forward-mode automatic differentiation."""
    return lambda t: torch.func.jvp(schedule, (t,), (torch.ones_like(t),))[1]


@dataclass(frozen=True)
class UserPath(AffinePath):
    """Any pair of elementwise torch functions; derivatives that are not given come from automatic differentiation.

    Raises
    ------
    TypeError
        For a schedule that is not a function.
    ValueError
        Unless alpha and sigma are elementwise, finite and non-negative, and zeta decreases strictly on [0, 1].
    """

    user_alpha: Schedule
    user_sigma: Schedule
    user_d_alpha: Schedule | None = None
    user_d_sigma: Schedule | None = None

    def __post_init__(self) -> None:
        for name in ("user_alpha", "user_sigma"):
            checks.function(getattr(self, name), name)
        t = torch.linspace(0, 1, 257, dtype=torch.float64)
        values = {"user_alpha": self._alpha(t), "user_sigma": self._sigma(t)}
        for name, value in values.items():
            if not isinstance(value, Tensor) or value.shape != t.shape:
                raise ValueError(f"{name} must be elementwise: a tensor of times in, one of the same shape out")
            if bool((checks.finite(name, value) < 0).any()):
                raise ValueError(f"{name} must be non-negative on [0, 1]")
        if not bool((torch.atan2(values["user_sigma"], values["user_alpha"]).diff() < 0).all()):
            raise ValueError("user_alpha and user_sigma must make sigma/alpha strictly decreasing on [0, 1]")

    def _scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self._alpha(t), self._sigma(t)

    def _alpha(self, t: Tensor) -> Tensor:
        return self.user_alpha(t)

    def _sigma(self, t: Tensor) -> Tensor:
        return self.user_sigma(t)

    def _d_alpha(self, t: Tensor) -> Tensor:
        return (self.user_d_alpha or derivative(self.user_alpha))(t)

    def _d_sigma(self, t: Tensor) -> Tensor:
        return (self.user_d_sigma or derivative(self.user_sigma))(t)

    @functools.cached_property
    def _table(self) -> tuple[Tensor, Tensor]:
        """Falling times, Chebyshev's nodes, and the rising angles atan(zeta) there, (CELLS + 1,) each.

        The cells are narrow at both ends of time, where the slope of zeta may vanish: sqrt(1 - alpha^2 + sigma_1^2) has
        none at the data.
        """
        times = torch.sin(math.pi / 2 * torch.linspace(1, 0, CELLS + 1, dtype=torch.float64)).square()
        alpha, sigma = self._scales(times)
        return times, torch.atan2(sigma, alpha)

    def _time_from_zeta(self, zeta: Tensor) -> Tensor:
        return _TimeFromZeta.apply(zeta, self)

    def invert(self, zeta: Tensor) -> Tensor:
        """Return the times at which the path has these zeta, of any shape, without a derivative."""
        given = zeta.cpu()
        (times, angles), angle = self._table, torch.atan(given)
        last, cell = len(angles) - 1, torch.searchsorted(angles, angle)
        # Not cos(angle), which has lost its digits where zeta is large.
        weights = torch.sin(angle).numpy(), (1 / torch.hypot(given, torch.ones_like(given))).numpy()
        # One cell more on either side, as round-off may put the root beside its own.
        bracket = times[(cell + 1).clamp(1, last)].numpy(), times[(cell - 2).clamp(0, last - 1)].numpy()
        root = torch.as_tensor(elementwise.find_root(self._excess, bracket, args=weights).x)
        # At the ends, and beyond the path's own range, the answer is known.
        return torch.where(angle <= angles[0], times[0], torch.where(angle >= angles[-1], times[-1], root)).to(zeta)

    def _excess(self, t: np.ndarray, sine: np.ndarray, cosine: np.ndarray) -> np.ndarray:
        """Return sigma cos(angle) - alpha sin(angle), which vanishes where sigma/alpha = tan(angle)."""
        alpha, sigma = self._scales(torch.tensor(t))
        return sigma.numpy() * cosine - alpha.numpy() * sine

    def inverse_slope(self, t: Tensor, zeta: Tensor) -> Tensor:
        """Return dt/dzeta at times t with this zeta, by the implicit function theorem; 0 where zeta is stationary."""
        alpha, sigma = self._alpha(t), self._sigma(t)
        derivative = (self._d_sigma(t) * alpha - sigma * self._d_alpha(t)) / (alpha.square() + sigma.square())
        usable = torch.isfinite(derivative) & (derivative != 0)
        return torch.where(usable, 1 / torch.where(usable, derivative * (1 + zeta.square()), 1.0), 0.0)


class _TimeFromZeta(torch.autograd.Function):
    """The inverse of a path's zeta; torch runs its forward on plain tensors under any function transform."""

    @staticmethod
    def forward(zeta: Tensor, path: UserPath) -> Tensor:
        return path.invert(zeta)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, UserPath], output: Tensor) -> None:
        zeta, ctx.path = inputs
        ctx.save_for_backward(output, zeta)
        ctx.save_for_forward(output, zeta)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.path.inverse_slope(*ctx.saved_tensors), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return tangent * ctx.path.inverse_slope(*ctx.saved_tensors)
