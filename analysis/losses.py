"""Losses: any callable that maps x (B, *event) to one number per sample, (B,), differentiably.

The losses of this module take tensors, NumPy arrays and lists of numbers. Their values are in float32 where x is
narrower, since the squares of float16 numbers overflow from 256 on; gradients have the dtype of x.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from analysis import checks
from analysis.norms import widened

Loss = Callable[[Tensor], Tensor]
UNRELATED = "loss must be differentiable: its value does not depend on x through autograd"
_seen: dict[int, Callable[[], Any]] = {}  # losses that have been looked at, by identity


def _gone() -> None:
    return None


def _given(name: str, value: Any) -> Tensor:
    """Return a user's array as a finite tensor: a tensor in its own dtype, anything else in float64."""
    return checks.finite(name, checks.tensor(value, name)) if isinstance(value, Tensor) else checks.array(value, name)


def _fitting(name: str, value: Tensor, x: Tensor) -> Tensor:
    """Return ``value`` for use with x (B, *event): one event, or one for each sample."""
    if value.shape not in (x.shape, x.shape[1:]):
        got = f"{tuple(x.shape)}; got {tuple(value.shape)}"
        raise ValueError(f"{name} must have the shape of x or of one sample of x, {got}")
    return value.to(widened(x))


@dataclass(frozen=True)
class HalfSquaredDistance:
    """L(x) = |x - target|^2 / 2, summed over the event; ``target`` is one event or one per sample.

    Raises
    ------
    TypeError
        For a target that is not an array of real numbers.
    ValueError
        For a target that is not finite; when called, for one that does not fit x.
    """

    target: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", _given("target", self.target))

    def __call__(self, x: Tensor) -> Tensor:
        """Return the losses (B,) of x (B, *event)."""
        return (widened(x) - _fitting("target", self.target, x)).square().flatten(1).sum(1) / 2


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
            object.__setattr__(self, name, _given(name, getattr(self, name)))
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
        operator = _given("operator", self.operator)
        identity = torch.eye(operator.shape[0] if operator.ndim else 1, dtype=torch.float64, device=operator.device)
        object.__setattr__(self, "noise_covariance", self.noise**2 * identity)
        super().__post_init__()

    def __call__(self, x: Tensor) -> Tensor:
        """Return the losses (B,) of x (B, d)."""
        return self._misfit(x, self.operator, self.measurement) / (2 * self.noise**2)


@dataclass(frozen=True)
class Linear:
    """L(x) = <direction, x>, with a constant gradient; ``direction`` is one event or one per sample.

    Raises
    ------
    TypeError
        For a direction that is not an array of real numbers.
    ValueError
        For a direction that is not finite; when called, for one that does not fit x.
    """

    direction: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "direction", _given("direction", self.direction))

    def __call__(self, x: Tensor) -> Tensor:
        """Return the losses (B,) of x (B, *event)."""
        return (widened(x) * _fitting("direction", self.direction, x)).flatten(1).sum(1)


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
    graph = isinstance(loss, WithGraph)
    with torch.enable_grad():
        x = x if graph and x.requires_grad else x.detach().requires_grad_()
        value = torch.stack([_value(loss, batch) for batch in x])
        _look(loss, value[0], x)
        (gradient,) = torch.autograd.grad(value.sum(), x, create_graph=graph, allow_unused=True)
    if gradient is None:
        raise ValueError(UNRELATED)
    # Where x itself is not finite, as after a solve that overflowed, neither is the loss: that sample failed before.
    usable = torch.isfinite(x.detach()).flatten(2).all(2)
    checks.finite("loss value", value.detach()[usable])
    checks.finite("loss gradient", gradient.detach()[usable])
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
