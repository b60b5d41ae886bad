"""Values and gradients of any loss, and losses in place of another one."""

from __future__ import annotations

import contextlib
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from analysis import checks
from analysis.losses.arrays import fitting
from analysis.losses.distances import HalfSquaredDistance, Linear
from analysis.losses.linear_gaussian import LinearGaussian
from analysis.norms import widened

Loss = Callable[[Tensor], Tensor]
UNRELATED = "loss must be differentiable: its value does not depend on x through autograd"
_seen: dict[int, Callable[[], Any]] = {}  # losses that have been looked at, by identity


def _gone() -> None:
    return None


@dataclass(frozen=True)
class Equivalent:
    """A loss in place of another one with which it agrees wherever both are finite.

    Only through this class does an estimator that needs the operator of a loss look inside a wrapper. Any other
    wrapper, or a subclass, may compute another loss than the one inside.
    """

    function: Loss
    original: Loss

    def __call__(self, x: Tensor) -> Tensor:
        """Return the losses (B,) of x (B, *event)."""
        return self.function(x)


@dataclass(frozen=True)
class WithGraph(Equivalent):
    """A loss whose value and gradient keep the graph to the point at which they were taken."""


def value_and_gradient(loss: Loss, x: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluate the loss and its gradient at x (B, *event).

    Returns
    -------
    tuple
        The loss (B,) and the gradient (B, *event), without a graph.

    Raises
    ------
    ValueError
        If the loss does not return shape (B,), is not differentiable, or gives NaN or infinity.
    """
    value, gradient = values_and_gradients(loss, x[None])
    return value[0], gradient[0]


def _value(loss: Loss, x: Tensor) -> Tensor:
    value = loss(x)
    if not isinstance(value, Tensor) or value.shape != x.shape[:1]:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"loss must return one value per sample, shape {tuple(x.shape[:1])}; got {got}")
    if not value.is_floating_point():
        raise ValueError(f"loss must return real floating-point numbers, got {value.dtype}")
    if not value.requires_grad:
        raise ValueError(UNRELATED)
    return value


def values_and_gradients(loss: Loss, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``value_and_gradient`` of x (n, B, *event) in one pass, (n, B) and like x; or ``ValueError``."""
    value, gradient = _in_closed_form(loss, x) or _by_autograd(loss, x)
    parts = value.detach(), gradient.detach()
    if not all(bool(torch.isfinite(part).all()) for part in parts):
        # Where x itself is not finite, as after a solve that overflowed, the sample failed before.
        usable = torch.isfinite(x.detach()).flatten(2).all(2)
        for name, part in zip(("loss value", "loss gradient"), parts, strict=True):
            checks.finite(name, part[usable])
    return value, gradient


@torch.no_grad()
def _in_closed_form(loss: Loss, x: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return what autograd gives for two simple losses, to the last bit; a subclass may be another loss."""
    if type(loss) is HalfSquaredDistance:
        difference = widened(x) - fitting("target", loss.target, x[0])
        return difference.square().flatten(2).sum(2) / 2, difference.to(x.dtype)
    if type(loss) is Linear:
        direction = fitting("direction", loss.direction, x[0])
        return (widened(x) * direction).flatten(2).sum(2), direction.to(x.dtype).expand(x.shape).contiguous()
    return None


def _by_autograd(loss: Loss, x: Tensor) -> tuple[Tensor, Tensor]:
    graph = isinstance(loss, WithGraph)
    with torch.enable_grad():
        x = x if graph and x.requires_grad else x.detach().requires_grad_()
        value = torch.stack([_value(loss, batch) for batch in x])
        _look(loss, value[0], x)
        (gradient,) = torch.autograd.grad(value.sum(), x, create_graph=graph, allow_unused=True)
    if gradient is None:
        raise ValueError(UNRELATED)
    return value if graph else value.detach(), gradient


def _look(loss: Loss, value: Tensor, x: Tensor) -> None:
    """Warn, the first time that a loss is asked, where the values (B,) at x (n, B, *event) depend on other samples."""
    while isinstance(loss, Equivalent):
        loss = loss.original
    known = isinstance(loss, HalfSquaredDistance | LinearGaussian | Linear)
    if known or len(value) == 1 or _seen.get(id(loss), _gone)() is loss:
        return
    (gradient,) = torch.autograd.grad(value[0], x, retain_graph=True, allow_unused=True)
    if gradient is not None and bool(((gradient[0, 1:] != 0) & torch.isfinite(gradient[0, 1:])).any()):
        warnings.warn(
            "loss: the value of one sample depends on another, so that gradients depend on the batch they are taken in",
            RuntimeWarning,
            stacklevel=2,
        )
    key = id(loss)
    with contextlib.suppress(TypeError):  # what cannot be referred to weakly is looked at each time
        _seen[key] = weakref.ref(loss, lambda _: _seen.pop(key, None))
