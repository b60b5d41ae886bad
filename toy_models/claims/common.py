"""What the claims share: states of a zoo problem, trajectories and quadratures, and the three kinds of case.

No limit is a number that somebody liked: equalities are held to round-off times the condition number of the problem,
integrals to the difference between two resolutions, and fitted slopes to the order that the theory or a solver states.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from analysis import solvers
from analysis.claims import Case
from analysis.errors import relative, relative_error
from analysis.flow import Flow
from analysis.gradients import ESTIMATORS
from analysis.losses import HalfSquaredDistance, Loss
from analysis.orders import fit_order
from analysis.paths import AffinePath, UserPath, expand
from analysis.reference import EPS, SAFETY
from toy_models.problems import zoo

# A fitted slope within this of an integer is that integer: the window is finite, and the confidence interval of a
# regression does not know of the next order's contribution.
SLOPE = 0.15
# A path that ends with noise left, where gamma_1 and with it "h = gamma_1 - gamma_t" are finite.
SHORT = "stopped short"


@dataclass(frozen=True)
class Draw:
    """A flow, states x (B, d) at times t (B,), and a loss whose targets are samples of the data, one per state."""

    flow: Flow
    loss: HalfSquaredDistance
    x: Tensor
    t: Tensor


def path_named(name: str) -> AffinePath:
    """Return a path of the zoo, or the one that is stopped short."""
    return UserPath(lambda t: t, lambda t: 1 - 0.9 * t) if name == SHORT else zoo.ZOO_PATHS[name]()


def states(problem: str, path: str, times: Sequence[float] | Tensor, n: int, seed: int) -> Draw:
    """Draw n states at each of the times (T,), with the same data, noise and targets at each of them."""
    schedule = path_named(path)
    flow, times = zoo.build(problem, schedule), torch.as_tensor(times, dtype=torch.float64)
    data, generator = zoo.distribution(flow), torch.Generator().manual_seed(seed + zlib.crc32(problem.encode()))
    clean, target = data.sample(n, generator), data.sample(n, generator)
    noise = torch.randn(clean.shape, dtype=clean.dtype, generator=generator)
    loss = HalfSquaredDistance(target.repeat(len(times), 1))
    return Draw(flow, loss, schedule.states(times, clean, noise), times.repeat_interleave(n))


def gradient(name: str, drawn: Draw, **options: object) -> Tensor:
    """Return a registered estimator's gradient at the states, (B, d)."""
    return ESTIMATORS[name](drawn.flow, drawn.loss, drawn.x, drawn.t, **options).gradient


def pulled(function: Callable[[Tensor], Tensor], x: Tensor, covector: Tensor) -> Tensor:
    """Return J^T covector at x (B, d) by automatic differentiation, which no estimator here uses on analytic flows."""
    x = x.detach().requires_grad_()
    return torch.autograd.grad(function(x), x, covector)[0]


def jacobian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the Jacobians (B, d, d) of a function of single states, by automatic differentiation."""
    x = x.detach().requires_grad_()
    value = function(x)
    rows = [torch.autograd.grad(value[:, i].sum(), x, retain_graph=True)[0] for i in range(x.shape[1])]
    return torch.stack(rows, 1)


def target(drawn: Draw) -> Callable[[Tensor], Tensor]:
    """Return x1hat as a function of the state alone, differentiable by autograd."""
    return lambda x: drawn.flow.predict(x, drawn.t, drawn.flow.path.readout("target", drawn.t))


def slope_at(loss: Loss, x: Tensor) -> Tensor:
    """Return the loss gradient (B, d), by autograd alone."""
    x = x.detach().requires_grad_()
    return torch.autograd.grad(loss(x).sum(), x)[0]


def condition(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return how much more a relative change of x moves the value, (B,), by a difference, alternating in sign."""
    h = math.sqrt(EPS)
    signs = torch.where(torch.arange(x.numel()).reshape(x.shape) % 2 == 0, 1.0, -1.0).to(x)
    value = function(x)
    return relative(function(x * (1 + h * signs)) - value, value) / h


def trajectory(flow: Flow, x: Tensor, times: Tensor, substeps: int) -> Tensor:
    """Return the states (n, B, d) at increasing times (n,) or (n, B), from x at the first, by Dormand-Prince steps."""
    found = [x]
    for start, end in pairwise(times):
        plan = solvers.plan("dopri5", flow.path, solvers.uniform_grid(start, end, substeps))
        found.append(solvers.solve(flow, found[-1], plan))
    return torch.stack(found)


def gauss(nodes: int) -> tuple[Tensor, Tensor]:
    """Return Gauss-Legendre nodes and weights (nodes,) for the unit interval."""
    found, weights = np.polynomial.legendre.leggauss(nodes)
    return torch.from_numpy((1 + found) / 2), torch.from_numpy(weights / 2)


def stacked(values: Tensor, weights: Tensor) -> Tensor:
    """Return the sum of values (n, B, ...) with weights (n,) or (n, B)."""
    return (
        expand(weights, values) * values if weights.ndim > 1 else torch.einsum("n,n...->n...", weights, values)
    ).sum(0)


def certain(
    kind: str, reading: str, case: str, value: float, limit: float, rule: str = "at most", tolerance: float = 0.0
) -> Case:
    """Return a case in which nothing is random, whose interval is its value."""
    return Case(kind, reading, case, value, value, value, limit, rule, tolerance)


def equal(kind: str, reading: str, case: str, found: Tensor, expected: Tensor, limit: Tensor | float) -> Case:
    """Return the case that two batches agree: the worst relative error (B,), relative to its limit's worst sample."""
    error, limit = relative_error(found, expected), torch.as_tensor(limit, dtype=torch.float64).expand(len(found))
    worst = int((error / limit).nan_to_num(math.inf).argmax())
    return certain(kind, reading, case, float(error[worst]), float(limit[worst]))


def round_off(*conditions: Tensor) -> Tensor:
    """Return the relative error (B,) that round-off may make of quantities with these condition numbers."""
    return SAFETY * EPS * (1 + sum(conditions, torch.zeros(())))


def order(
    kind: str, reading: str, case: str, h: Tensor, error: Tensor, limit: float, *, floor: float, rule: str = "at least"
) -> Case:
    """Return the case that errors (H, B) fall with h (H,) at an order: the slope of their medians, with its interval.

    A slope that cannot be fitted is a case that fails, and says why.
    """
    try:
        fit = fit_order(h.numpy(), error.median(1).values.numpy(), floor=floor, points=len(h))
    except ValueError as reason:
        return Case(kind, reading, f"{case}: {reason}", math.nan, math.nan, math.nan, limit, rule, SLOPE)
    return Case(kind, reading, case, fit.slope, fit.low, fit.high, limit, rule, SLOPE)


def by_time(values: Tensor, times: int) -> Tensor:
    """Return per-state values (T B,) as (T, B)."""
    return values.unflatten(0, (times, -1))
