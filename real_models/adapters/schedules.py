"""Noise schedules of other libraries as affine paths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis import checks
from analysis.paths import UserPath

INSIDE = 1e-5  # width of a difference where a derivative is 0/0, as that of sqrt(1 - alpha^2) at alpha = 1


@dataclass(frozen=True)
class SchedulePath(UserPath):
    """A ``UserPath`` whose alpha and sigma may come from one call, and whose derivatives may be missing at an end."""

    together: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None  # alpha and sigma by one call

    def _scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.together(t) if self.together else (self._alpha(t), self._sigma(t))

    def _d_alpha(self, t: Tensor) -> Tensor:
        return self._mended(super()._d_alpha(t), self._alpha, t)

    def _d_sigma(self, t: Tensor) -> Tensor:
        return self._mended(super()._d_sigma(t), self._sigma, t)

    @staticmethod
    def _mended(derivative: Tensor, scale: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
        missing = ~torch.isfinite(derivative)
        if checks.may_ask(missing) and not bool(missing.any()):
            return derivative
        inside = t + INSIDE * torch.where(t < 0.5, 1.0, -1.0)
        return torch.where(missing, (scale(inside) - scale(t)) / (inside - t), derivative)
