r"""Adaptive lookahead: at each state the smallest lookahead whose estimated gradient error is below a tolerance.

Time. Every affine path is the cosine path after a change of time and scale (``flow.Reparametrized``), so all solves
step in that path's time, where fields are smooth and finite at both ends: the choice is the same on every path.

**Rung 0**, tried in the last quarter of cosine time (zeta at most 0.41), is greedy guidance with its leading term,
which costs nothing. In :math:`y = x/\alpha`, :math:`z = \sigma/\alpha` greedy follows the tangent,
:math:`r = y - z y'`, and its leading error is :math:`\tfrac12 z^2 y''` (``analysis.leading_term``). A smooth density
does not depend on z to first order, so :math:`\hat x_0 = y' \approx z\,y''`: the leading term is
:math:`\tfrac12 z y' = \tfrac12 (y - r)`, half of the way from the target prediction back to the state, and needs no
derivative. With :math:`v = \nabla L(r)`, :math:`g = Dr^T v`, and :math:`Dr \approx I/\alpha` to the order that matters,

.. math:: g^* - g \approx \tfrac12 (v/\alpha - g) + \bigl[\nabla L(r + \tfrac12 (y - r)) - v\bigr]/\alpha .

For one Gaussian, with D the eigenvalues of :math:`\alpha D\hat x_1`, greedy's error in the Jacobian is
:math:`\sqrt D - D \le \tfrac12 (1 - D)`: the estimate is then also a bound. The gradient returned is the corrected one.
Where a path ends with :math:`\sigma_1 > 0`, r is the DDIM step to its end, and one half becomes
:math:`\tfrac12 (1 - \zeta_1/\zeta)`.

**Rung n** is the end-to-end gradient with n steps of Ralston's method. Its adjoints :math:`a_0, ..., a_n` at the nodes,
:math:`a_0` the gradient, tell its error without a second solve. With :math:`\Delta_i = a_{i+1} - a_i \approx h a'`,

.. math:: q = \sum_{i=1}^{n-1} \frac{|\Delta_i - \Delta_{i-1}|}{|a_i|} \approx h \int \frac{|a''|}{|a|}\,ds

is how much the adjoint bends over the solve, and a method of order two errs by about :math:`h \cdot q`, with a factor
that depends on the field: on random mixtures its median is 0.25 q/n for n from 3 to 24, and its 95th percentile q/n.
The estimate is :math:`\max(c_1 q, q^2)/n`: solves that bend much do not resolve what they step over. If that is too
large, a rung with more steps follows and is compared with the one before: a quarter of their difference estimates its
error (asymptotically it is 1/3 after doubling and 0.19 after 2.5 times as many steps), and where that difference is
small Richardson's extrapolation of the two is returned.

**Climbing.** A solve begins with :math:`c_0 (1 - s)/\sqrt{tolerance}` steps, 1 - s the cosine time that is left, and
goes on with as many as the estimate asks for, error falling as n^-2, at most 2.5 times as many. Only the samples that
are not accepted yet are computed: rung n costs 2n evaluations and 2n products, rung 0 one of each.

How the constants were found: c_0, c_1, the quarter, when to extrapolate and Ralston's method itself were set on the
zoo, forty random mixtures and the families of ``toy_models.families`` with the seeds that are named there, for 95 % of
all their states at the least cost. An earlier setting, from the zoo and the random mixtures alone, kept a tolerance of
0.3 in only 82 % of the states of eight other problems; such problems then became families.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from analysis import checks, solvers
from analysis.cost import Cost, MeteredFlow, measured
from analysis.errors import relative
from analysis.flow import Flow, Pullback
from analysis.gradients.registry import register
from analysis.losses import Loss, value_and_gradient
from analysis.paths import Cosine, expand

VARIANTS = [{"tolerance": tolerance} for tolerance in (0.3, 0.1, 0.03, 0.01)]
RUNGS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256)
CLOCK, SOLVER = Cosine(), "ralston"
LATE = 0.75  # cosine time from which rung 0 is tried: zeta is at most 0.41
LARGEST_LEADING_TERM = 0.1  # larger ones are not believed, however wide the tolerance
FIRST, LEAST_STEPS = 2.6, 2  # the first rung; one step has no bend
BEND = 0.7  # the estimated error over q/n, where q is smaller than this
DIFFERENCE = 1 / 4  # the estimated error over the difference of two rungs
EXTRAPOLATED = 0.3  # largest difference of two rungs that Richardson's extrapolation is good for
AIM, LONGEST_JUMP = 0.8, 2.5


@dataclass(frozen=True)
class Choices:
    """What was chosen for each of B samples.

    Attributes
    ----------
    gradient, endpoint : (B, *event), the gradient and where its lookahead arrives
    steps : (B,) integers, steps of the solve; 0 is greedy with its leading term
    error : (B,), the estimated relative error of ``gradient``; above the tolerance where the last rung was not enough,
        and infinite after a single step
    cost : what it took
    """

    gradient: Tensor
    endpoint: Tensor
    steps: Tensor
    error: Tensor
    cost: Cost


@register("adaptive", VARIANTS)
def adaptive(
    flow: Flow, loss: Loss, x: Tensor, t: Tensor, *, tolerance: float, max_steps: int = 64
) -> tuple[Tensor, Tensor]:
    """Return the gradient (B, *event) of the first rung of each sample whose estimated relative error is small enough.

    ``tolerance`` is relative and positive; the climb ends with the last rung of at most ``max_steps`` steps, whatever
    its error. ``choices`` says what was chosen.
    """
    found = climb(flow, loss, x, t, tolerance, max_steps)
    return found.gradient, found.endpoint


def choices(flow: Flow, loss: Loss, x: Tensor, t: Tensor | float, *, tolerance: float, max_steps: int = 64) -> Choices:
    """Return what ``adaptive`` chooses at states x (B, *event) and times t (float or (B,)), and its estimates.

    Raises ``ValueError`` as estimators do, and names ``tolerance`` unless it is positive and finite, and ``max_steps``
    unless it is an integer of at least 1.
    """
    x, t = flow.checked(x, t)
    cost = Cost()
    with measured(cost, x.device):
        found = climb(MeteredFlow(flow, len(x), cost), loss, x, t, tolerance, max_steps)
    return replace(found, cost=cost)


def climb(flow: Flow, loss: Loss, x: Tensor, t: Tensor, tolerance: float, max_steps: int) -> Choices:
    """Return the choices; their cost is left empty."""
    if not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance must be positive and finite, got {tolerance!r}")
    rungs = torch.tensor([n for n in RUNGS if n <= checks.count("max_steps", max_steps)], device=x.device)
    t = t.to(x.device).expand(len(x))
    found = Choices(torch.zeros_like(x), x.clone(), t.new_zeros(len(x)).long(), x.new_full((len(x),), math.inf), Cost())
    start = _start(flow, x, t)
    _rung_zero(flow, loss, x, t, found)
    # Here and below, an estimate that is not a number is not below the tolerance.
    waiting = ~(found.error <= min(tolerance, LARGEST_LEADING_TERM))
    steps = _at_least(rungs, (FIRST * (start.end - start.time) / math.sqrt(tolerance)).clamp(min=LEAST_STEPS))
    before, last = torch.zeros_like(x), torch.zeros_like(steps)
    while bool(waiting.any()):
        who = waiting.nonzero()[:, 0]
        fine, found.endpoint[who], bend = _rungs(start, loss, who, steps[who])
        better, error = _estimate(fine, before[who], bend, steps[who], last[who])
        found.gradient[who], found.steps[who], found.error[who] = better, steps[who], error
        waiting[who] = ~(error <= tolerance) & (steps[who] < rungs[-1])
        before[who], last[who] = fine, steps[who]
        steps[who] = _next(steps[who], error / tolerance, rungs)
    return found


def _slope(loss: Loss, count: int, who: Tensor, part: Tensor) -> Tensor:
    """Return the loss gradient at ``part`` for the samples ``who`` of ``count``.

    The loss may hold a target for each sample, so that it is asked for the whole batch. The others have a prediction
    as well, and not their noisy states, for which a loss need not be made.
    """
    whole = part[:1].repeat(count, *[1] * (part.ndim - 1)).index_copy(0, who, part)
    return value_and_gradient(loss, whole)[1][who]


def _rung_zero(flow: Flow, loss: Loss, x: Tensor, t: Tensor, found: Choices) -> None:
    """Fill in greedy corrected by its leading term, with that term's share, for the samples that are late enough."""
    path, one = flow.path, t.new_ones(())
    who = (CLOCK.time_from_zeta(path.zeta(t)) >= LATE).nonzero()[:, 0]
    if not len(who):
        return
    y, s = x[who], t[who]
    alpha, sigma, alpha_1, sigma_1 = path.alpha(s), path.sigma(s), path.alpha(one), path.sigma(one)
    value, pull = flow.predict_vjp(y, s, path.combination(alpha_1.expand_as(s), sigma_1.expand_as(s), s))
    slope = _slope(loss, len(x), who, value)
    plain = pull(slope)
    spread = expand(alpha_1 / alpha, y)
    # zeta_1/zeta; where the path ends without noise it is 0, also at the end itself
    half = expand((1 - (sigma_1 * alpha / (alpha_1 * sigma) if float(sigma_1) else 0 * s)) / 2, y)
    jacobian_part = half * (spread * slope - plain)
    # A loss is not asked for its gradient where the leading term would move the prediction out of all proportion.
    near = relative(jacobian_part, plain) <= 2 * LARGEST_LEADING_TERM
    moved = torch.where(expand(near, y).bool(), value + half * (spread * y - value), value)
    term = jacobian_part + spread * (_slope(loss, len(x), who, moved) - slope)
    found.gradient[who], found.endpoint[who] = plain + term, moved
    found.error[who] = torch.where(near, relative(term, plain + term), torch.inf)


@dataclass(frozen=True)
class Start:
    """States on the cosine path, in its time and scale, and where they end there."""

    flow: Flow
    state: Tensor
    time: Tensor
    end: Tensor
    scale: Tensor
    end_scale: Tensor


def _start(flow: Flow, x: Tensor, t: Tensor) -> Start:
    path, one = flow.path, t.new_ones(())
    time, end = (CLOCK.time_from_zeta(path.zeta(s)) for s in (t, one))
    scale, end_scale = (expand(torch.hypot(path.alpha(s), path.sigma(s)), x) for s in (t, one))
    return Start(flow.with_path(CLOCK), x / scale, time, end, scale, end_scale)


def _rungs(start: Start, loss: Loss, who: Tensor, steps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradients, endpoints and bends of ``steps`` steps for the samples ``who``."""
    gradient, endpoint = (torch.empty_like(start.state[who]) for _ in range(2))
    bend = start.state.new_empty(len(who))
    for n in steps.unique().tolist():
        here = (steps == n).nonzero()[:, 0]
        some = who[here]
        adjoints, endpoint[here] = _adjoints(start, loss, some, n)
        gradient[here], bend[here] = adjoints[0] / start.scale[some], _bend(adjoints)
    return gradient, endpoint, bend


def _adjoints(start: Start, loss: Loss, who: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the adjoints at the nodes (n + 1, C, *event) of n steps of C samples ``who``, and the endpoints."""
    stages = solvers.plan(SOLVER, CLOCK, solvers.uniform_grid(start.time[who], start.end, n))
    state, pulls = start.state[who], list[Pullback]()
    for i in range(n):
        state, pull = solvers.step_vjp(start.flow, state, stages[i])
        pulls.append(pull)
    endpoint = start.end_scale * state
    adjoints = [start.end_scale * _slope(loss, len(start.state), who, endpoint)]
    for pull in reversed(pulls):
        adjoints.append(pull(adjoints[-1]))
    return torch.stack(adjoints[::-1]), endpoint


def _bend(adjoints: Tensor) -> Tensor:
    """Return q (C,) of adjoints at the nodes (n + 1, C, *event); a single step does not tell, and has infinity."""
    count = adjoints.shape[1]
    if len(adjoints) == 2:
        return adjoints.new_full((count,), math.inf)
    changes = adjoints.diff(dim=0).diff(dim=0).flatten(0, 1)
    return relative(changes, adjoints[1:-1].flatten(0, 1)).unflatten(0, (-1, count)).sum(0)


def _estimate(fine: Tensor, coarse: Tensor, bend: Tensor, steps: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """Return gradients and their estimated relative errors, from the bend or, where there is one, the rung before."""
    weight = 1 / ((steps.to(bend) / last.clamp(min=1)).square() - 1)
    better = fine + expand(weight, fine) * (fine - coarse)
    difference = relative(fine - coarse, better)
    use = (last > 0) & (difference <= EXTRAPOLATED)
    error = torch.where(last > 0, DIFFERENCE * difference, torch.maximum(BEND * bend, bend.square()) / steps)
    return torch.where(expand(use, fine).bool(), better, fine), error


def _at_least(rungs: Tensor, wanted: Tensor) -> Tensor:
    """Return the first rungs with at least so many steps, or the last rung."""
    return rungs[torch.searchsorted(rungs, torch.ceil(wanted.clamp(max=float(rungs[-1]))).to(rungs))]


def _next(steps: Tensor, excess: Tensor, rungs: Tensor) -> Tensor:
    """Return the rungs at which estimates ``excess`` times too large would be small enough, falling as n^-2."""
    jump = (excess / AIM).nan_to_num(nan=math.inf).sqrt().clamp(max=LONGEST_JUMP)
    return _at_least(rungs, torch.maximum(steps * jump, steps + 1))
