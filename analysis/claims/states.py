"""States at which a claim is measured, and calculus that the claims share: products, paths, quadratures.

Derivatives here are automatic differentiation of the flow's own predictions. On analytic flows no estimator computes
its products by autograd, so a claim compares two computations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis import solvers
from analysis.errors import relative
from analysis.flow import Flow
from analysis.gradients import ESTIMATORS
from analysis.losses import Loss
from analysis.paths import PATHS, AffinePath, UserPath, expand
from analysis.reference import EPS

# A path that ends with noise left, where gamma_1 and with it "h = gamma_1 - gamma_t" are finite.
SHORT = "stopped short"


@dataclass(frozen=True)
class FlowStates:
    """A flow, its states x (B, d) at times t (B,), and a loss for each of them."""

    flow: Flow
    loss: Loss
    x: Tensor
    t: Tensor


def stopped_short() -> AffinePath:
    """Return the path with alpha = t and sigma = 1 - 0.9 t, which ends with noise left."""
    return UserPath(lambda t: t, lambda t: 1 - 0.9 * t)


def path_named(name: str) -> AffinePath:
    """Return a path of the library by its name, or the one that is stopped short."""
    return stopped_short() if name == SHORT else PATHS[name]()


def estimated_gradient(name: str, states: FlowStates, **options: Any) -> Tensor:
    """Return a registered estimator's gradient at the states, (B, d)."""
    return ESTIMATORS[name](states.flow, states.loss, states.x, states.t, **options).gradient


def vjp_by_autograd(function: Callable[[Tensor], Tensor], x: Tensor, cotangent: Tensor) -> Tensor:
    """Return J^T cotangent at x (B, d) for a function from (B, d) to the shape of ``cotangent``."""
    x = x.detach().requires_grad_()
    return torch.autograd.grad(function(x), x, cotangent)[0]


def jacobian_by_autograd(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the Jacobians (B, d, d) of a function of single states."""
    x = x.detach().requires_grad_()
    value = function(x)
    rows = [torch.autograd.grad(value[:, i].sum(), x, retain_graph=True)[0] for i in range(x.shape[1])]
    return torch.stack(rows, 1)


def target_prediction(states: FlowStates) -> Callable[[Tensor], Tensor]:
    """Return x1hat at the states' times as a function of x (B, d), differentiable by autograd."""
    return lambda x: states.flow.predict(x, states.t, states.flow.path.readout("target", states.t))


def loss_gradient(loss: Loss, x: Tensor) -> Tensor:
    """Return the gradient (B, d) of the loss at x (B, d)."""
    x = x.detach().requires_grad_()
    return torch.autograd.grad(loss(x).sum(), x)[0]


def relative_condition(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the relative change of a function (B,) over that of x (B, d), by a difference with alternating signs."""
    h = math.sqrt(EPS)
    signs = torch.where(torch.arange(x.numel()).reshape(x.shape) % 2 == 0, 1.0, -1.0).to(x)
    value = function(x)
    return relative(function(x * (1 + h * signs)) - value, value) / h


def trajectory(flow: Flow, x: Tensor, times: Tensor, substeps: int) -> Tensor:
    """Return the states (n, B, d) at increasing times (n,) or (n, B), from x at the first, by Dormand-Prince steps."""
    states = [x]
    for start, end in pairwise(times):
        plan = solvers.plan("dopri5", flow.path, solvers.uniform_grid(start, end, substeps))
        states.append(solvers.solve(flow, states[-1], plan))
    return torch.stack(states)


def gauss_legendre(nodes: int) -> tuple[Tensor, Tensor]:
    """Return Gauss-Legendre nodes and weights (nodes,) for the unit interval."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    return torch.from_numpy((1 + points) / 2), torch.from_numpy(weights / 2)


def weighted_sum(values: Tensor, weights: Tensor) -> Tensor:
    """Return the sum over the first axis of values (n, B, ...) with weights (n,) or (n, B)."""
    return (
        expand(weights, values) * values if weights.ndim > 1 else torch.einsum("n,n...->n...", weights, values)
    ).sum(0)


def by_time(values: Tensor, times: int) -> Tensor:
    """Return per-state values (T * B,) as (T, B)."""
    return values.unflatten(0, (times, -1))
