"""Noise schedules of other libraries as affine paths that know their inverse quickly."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from analysis.paths import UserPath

NODES = 4096
MOST = 64  # iterations; regula falsi (Illinois) needs three from a bracket this narrow, and bisects at worst
INSIDE = 1e-5  # where a slope is 0/0, as that of sqrt(1 - alpha^2) at alpha = 1, a difference of this width is taken


@dataclass(frozen=True)
class SchedulePath(UserPath):
    """A pair of callables, as ``UserPath`` takes them, whose zeta is inverted from a table of brackets.

    A network asked along another path needs the inverse at every evaluation. The brackets are narrow at both ends of
    time (Chebyshev's nodes), where the slope of zeta may vanish: sqrt(1 - alpha^2 + sigma_min^2) has none at the data.
    """

    together: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None  # alpha and sigma by one call
    _table: Tensor = field(init=False, repr=False, compare=False)  # times, alpha, sigma and their angle, (4, NODES + 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        nodes = torch.arange(NODES + 1, dtype=torch.float64) / NODES
        times = torch.sin(math.pi / 2 * nodes).square().flip(0)
        alpha, sigma = self._scales(times)
        object.__setattr__(self, "_table", torch.stack([times, alpha, sigma, torch.atan2(sigma, alpha)]))

    def _scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.together(t) if self.together else (self._alpha(t), self._sigma(t))

    def _d_alpha(self, t: Tensor) -> Tensor:
        return self._mended(super()._d_alpha(t), self._alpha, t)

    def _d_sigma(self, t: Tensor) -> Tensor:
        return self._mended(super()._d_sigma(t), self._sigma, t)

    @staticmethod
    def _mended(slope: Tensor, scale: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
        missing = ~torch.isfinite(slope)
        if not bool(missing.any()):
            return slope
        inside = t + INSIDE * torch.where(t < 0.5, 1.0, -1.0)
        return torch.where(missing, (scale(inside) - scale(t)) / (inside - t), slope)

    def _time_from_zeta(self, zeta: Tensor) -> Tensor:
        given = zeta.detach().cpu().double()
        angle = torch.atan(given)
        angles = self._table[3]
        after = torch.searchsorted(angles, angle).clamp(1, NODES)
        # Not cos(angle), which has lost its digits where zeta is large.
        root = self._root(after, torch.sin(angle), 1 / torch.hypot(given, torch.ones_like(given)))
        t = torch.where(angle <= angles[0], 1.0, torch.where(angle >= angles[-1], 0.0, root)).to(zeta)
        return self._differentiable_root(t, zeta)

    def _root(self, after: Tensor, sine: Tensor, cosine: Tensor) -> Tensor:
        """Solve sigma cosine = alpha sine between the nodes ``after - 1`` and ``after``."""
        (a, alpha, sigma, _), (b, alpha_b, sigma_b, _) = self._table[:, after - 1], self._table[:, after]
        f, g = sigma * cosine - alpha * sine, sigma_b * cosine - alpha_b * sine
        for _ in range(MOST):
            c = torch.where(f == g, b, (a * g - b * f) / torch.where(f == g, 1.0, g - f)).clamp(0, 1)
            if bool(((c - b).abs() <= 2 * torch.finfo(c.dtype).eps).all()):
                break
            alpha, sigma = self._scales(c)
            h = sigma * cosine - alpha * sine
            same = h * g > 0
            a, f, b, g = torch.where(same, a, b), torch.where(same, f / 2, g), c, h
        return c
