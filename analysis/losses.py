"""Losses: any callable that maps x (B, *event) to one number per sample, (B,), differentiably."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis import checks

Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class HalfSquaredDistance:
    """L(x) = |x - target|^2 / 2, summed over the event; ``target`` is one event or one per sample."""

    target: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return (B,) losses of x (B, *event)."""
        target = self.target.to(x)
        if target.shape not in (x.shape, x.shape[1:]):
            raise ValueError(f"target must have the shape of x or of one sample of x, {tuple(x.shape)}")
        return (x - target).square().flatten(1).sum(1) / 2


@dataclass(frozen=True)
class HalfSquaredResidual:
    """L(x) = |A x - y|^2 / (2 noise^2) for flat events: the negative log-likelihood of y = A x + noise N(0, I).

    Shapes: ``operator`` (m, d), ``measurement`` (m,) or (B, m), ``noise`` > 0 in the units of y.
    """

    operator: Tensor
    measurement: Tensor
    noise: float = 1.0

    def __call__(self, x: Tensor) -> Tensor:
        """Return (B,) losses of x (B, d)."""
        residual = x @ self.operator.to(x).T - self.measurement.to(x)
        return residual.square().sum(-1) / (2 * self.noise**2)


@dataclass(frozen=True)
class Linear:
    """L(x) = <direction, x>, whose gradient is the same everywhere."""

    direction: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return (B,) losses of x (B, *event)."""
        return (x * self.direction.to(x)).flatten(1).sum(1)


def value_and_gradient(loss: Loss, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss (B,) and its gradient (B, *event) at x.

    Raises ``ValueError`` where the loss does not return shape (B,), is not differentiable or gives NaN or infinity.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = loss(x)
        if not isinstance(value, Tensor) or value.shape != x.shape[:1]:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"loss must return one value per sample, shape {tuple(x.shape[:1])}; got {got}")
        if not value.requires_grad:
            raise ValueError("loss must be differentiable: its value does not depend on x through autograd")
        (gradient,) = torch.autograd.grad(value.sum(), x)
    return checks.finite("loss value", value.detach()), checks.finite("loss gradient", gradient)
