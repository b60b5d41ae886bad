r"""Adaptive lookahead: at each state the smallest lookahead whose estimated gradient error is below a tolerance.

Time. Every affine path is the cosine path after a change of time and scale (``flow.Reparametrized``), so all solves
step in that path's time, where fields are smooth and finite at both ends: the choice is the same on every path.

**Rung 0**, tried in the last quarter of cosine time (zeta at most 0.41), is greedy guidance with its leading term,
which costs nothing. In :math:`y = x/\alpha`, :math:`z = \sigma/\alpha` greedy follows the tangent,
:math:`r = y - z y'`, and its leading error is :math:`\tfrac12 z^2 y''` (``analysis.bounds.leading_term``). A smooth
density does not depend on z to first order, so :math:`\hat x_0 = y' \approx z\,y''`: the leading term is
:math:`\tfrac12 z y' = \tfrac12 (y - r)`, half of the way from the target prediction back to the state, and needs no
derivative. With :math:`v = \nabla L(r)`, :math:`g = Dr^T v`, and :math:`Dr \approx I/\alpha` to the order that matters,

.. math:: g^* - g \approx \tfrac12 (v/\alpha - g) + \bigl[\nabla L(r + \tfrac12 (y - r)) - v\bigr]/\alpha .

For one Gaussian, with D the eigenvalues of :math:`\alpha D\hat x_1`, greedy's error in the Jacobian is
:math:`\sqrt D - D \le \tfrac12 (1 - D)`: the estimate is then also a bound. The gradient returned is the corrected one.
Where a path ends with :math:`\sigma_1 > 0`, r is the DDIM step to its end, and one half becomes
:math:`\tfrac12 (1 - \zeta_1/\zeta)`.

**Rung n** is the end-to-end gradient with n steps of Ralston's method. The adjoints at its nodes, the last of which is
the gradient, tell its error without a second solve: by how much they bend, p and q of ``mesh``. For n equal steps
:math:`p = q/n`; on random mixtures the median error is 0.25 p for n from 3 to 24, and its 95th percentile p. The
estimate is :math:`\max(c_1, c_2 q)\,p`: solves that bend much do not resolve what they step over.

If that is too large, a rung follows whose steps are small where the adjoints bent, as many as bring p below the
tolerance, at most 2.5 times as many as before. On the same problems such steps err by half as much as equally many
equal ones. Two rungs also differ, by D relative to the gradient, and the estimate is
:math:`c_3 \sqrt{D\,p \max(1, q)}`. Where they differ little, the gradient is extrapolated: were both errors alike and
in proportion to p, the finer one would be :math:`D/(p_0/p - 1)`, with :math:`p_0` before it. They are not quite alike,
as steps differ, and half of that is best.

**Climbing** begins with :math:`c_0 (1 - s)/\sqrt{tolerance}` equal steps, 1 - s the cosine time that is left. Only the
samples that are not accepted yet are computed: rung n costs 2n evaluations and 2n products, rung 0 one of each.

How the constants were found: all of them and Ralston's method itself were set on the zoo, forty random mixtures and the
families of ``toy_models.problems.families`` with the seeds that are named there, for 95 % of all their states at the
least cost. An earlier setting, from the zoo and the random mixtures alone, kept a tolerance of 0.3 in only 82 % of the
states of eight other problems; such problems then became families.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from analysis import canonical, checks, solvers
from analysis.canonical import CANONICAL, CanonicalView
from analysis.cost import Cost, metered
from analysis.errors import relative
from analysis.flow import Flow, Pullback
from analysis.gradients.mesh import Mesh, bends_of, curvature
from analysis.gradients.registry import register
from analysis.losses import Loss, value_and_gradient
from analysis.paths import expand

VARIANTS = [{"tolerance": tolerance} for tolerance in (0.3, 0.1, 0.03, 0.01)]
RUNGS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 22, 24, 28, 32, 36, 40, 48, 56, 64, 80, 96, 128, 192, 256)
SOLVER = "ralston"
LATE = 0.75  # cosine time from which rung 0 is tried: zeta is at most 0.41
LARGEST_LEADING_TERM = 0.1  # larger ones are not believed, however wide the tolerance
FIRST, LEAST_STEPS = 2.8, 2  # c_0; one step has no bend
LINEAR, QUADRATIC, SECOND = 0.8, 1.2, 0.45  # c_1, c_2, c_3
EXTRAPOLATED = 0.1  # largest D at which the gradient is
HELD = 2**20  # numbers of all states of a solve that is differentiated at once, as its memory is many times that
AIM, LONGEST_JUMP = 0.65, 2.5  # the share of the tolerance that a rung aims at, by c_1 p


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
    with metered(flow, x) as (counted, cost):
        found = climb(counted, loss, x, t, tolerance, max_steps)
    return replace(found, cost=cost)


def climb(flow: Flow, loss: Loss, x: Tensor, t: Tensor, tolerance: float, max_steps: int) -> Choices:
    """Return the choices; their cost is left empty."""
    tolerance = checks.positive("tolerance", tolerance)
    rungs = torch.tensor([n for n in RUNGS if n <= checks.count("max_steps", max_steps)], device=x.device)
    t = t.to(x.device).expand(len(x))
    found = Choices(torch.zeros_like(x), x.clone(), t.new_zeros(len(x)).long(), x.new_full((len(x),), math.inf), Cost())
    view = canonical.view(flow, t)
    start = Start(view, view.enter(x), Mesh.equal(len(x), int(rungs[-1]), view.begin))
    _at_the_end(loss, x, t, found)
    _rung_zero(flow, loss, x, t, found)
    # Here and below, an estimate that is not a number is not below the tolerance.
    waiting = ~(found.error <= min(tolerance, LARGEST_LEADING_TERM))
    steps = _at_least(rungs, (FIRST * (view.end - view.begin) / math.sqrt(tolerance)).clamp(min=LEAST_STEPS))
    before: tuple[Tensor, Tensor] | None = None
    while bool(waiting.any()):
        who = waiting.nonzero()[:, 0]
        fine, found.endpoint[who], bends = _rungs(start, loss, who, steps[who])
        if before is None:
            before = torch.zeros_like(x), torch.zeros_like(view.begin)
            better, error = fine, torch.maximum(LINEAR * bends.weighted, QUADRATIC * bends.total * bends.weighted)
        else:
            better, error = _compared(fine, bends, before[0][who], before[1][who])
        found.gradient[who], found.steps[who], found.error[who] = better, steps[who], error.to(x)
        waiting[who] = ~(error <= tolerance) & (steps[who] < rungs[-1])
        before[0][who], before[1][who] = fine, bends.weighted
        steps[who] = _next(steps[who], LINEAR * bends.ahead / (AIM * tolerance), rungs)
    return found


def _slope(loss: Loss, count: int, who: Tensor, part: Tensor) -> Tensor:
    """Return the loss gradient at ``part`` for the samples ``who`` of ``count``.

    The loss may hold a target for each sample, so that it is asked for the whole batch. The others have a prediction
    as well, and not their noisy states, for which a loss need not be made.
    """
    whole = part[:1].repeat(count, *[1] * (part.ndim - 1)).index_copy(0, who, part)
    return value_and_gradient(loss, whole)[1][who]


def _at_the_end(loss: Loss, x: Tensor, t: Tensor, found: Choices) -> None:
    """Fill in the gradient of the loss at x for the samples that have arrived at time 1."""
    index = (t == 1).nonzero()[:, 0]
    if len(index):
        found.gradient[index], found.error[index] = _slope(loss, len(x), index, x[index]), 0.0


def _rung_zero(flow: Flow, loss: Loss, x: Tensor, t: Tensor, found: Choices) -> None:
    """Fill in greedy corrected by its leading term, with that term's share, for the samples that are late enough."""
    path, one = flow.path, t.new_ones(())
    who = ((canonical.canonical_time(path, t) >= LATE) & (t < 1)).nonzero()[:, 0]
    if not len(who):
        return
    y, s = x[who], t[who]
    alpha, sigma, alpha_1, sigma_1 = path.alpha(s), path.sigma(s), path.alpha(one), path.sigma(one)
    readout = path.combination(alpha_1.expand_as(s), sigma_1.expand_as(s), s)
    value, pull = flow.select_rows(who).predict_vjp(y, s, readout)
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
    """The flow on the canonical path, the states there (B, *event), and the steps of their solves."""

    view: CanonicalView
    state: Tensor
    mesh: Mesh


class Bends(NamedTuple):
    """p and q of solves, (C,), and n^2 p on the mesh that has been refined for the next ones."""

    weighted: Tensor
    total: Tensor
    ahead: Tensor


def _rungs(start: Start, loss: Loss, who: Tensor, steps: Tensor) -> tuple[Tensor, Tensor, Bends]:
    """Return gradients, endpoints and bends of ``steps`` steps for the samples ``who``, and refine their mesh."""
    gradient, endpoint = (torch.empty_like(start.state[who]) for _ in range(2))
    bends = start.view.begin.new_full((3, len(who)), math.inf)
    for n, here in _groups(steps, HELD // start.state[0].numel()):
        some = who[here]
        nodes = start.mesh.nodes(some, n)
        adjoints, endpoint[here] = _adjoints(start, loss, some, nodes)
        gradient[here] = start.view.select_rows(some).enter(adjoints[0])
        if n > 1:
            bent = curvature(adjoints, nodes)
            bends[:2, here] = torch.stack(bends_of(bent, nodes))
            bends[2, here] = start.mesh.refine(some, nodes, bent)
    return gradient, endpoint, Bends(*bends)


def _groups(steps: Tensor, most: int) -> Iterator[tuple[int, Tensor]]:
    """Yield each number of steps with samples that take so many, at most ``most`` steps in all, or one sample."""
    for n in steps.unique().tolist():
        yield from ((n, part) for part in (steps == n).nonzero()[:, 0].split(max(1, most // n)))


def _adjoints(start: Start, loss: Loss, who: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the adjoints at the nodes (n + 1, C, *event) of C samples ``who``, and the endpoints."""
    view = start.view.select_rows(who)
    stages = solvers.plan(SOLVER, CANONICAL, torch.lerp(view.begin, view.end, nodes))  # exact at both ends
    state, pulls = start.state[who], list[Pullback]()
    for i in range(len(stages)):
        state, pull = solvers.step_vjp(view.flow, state, stages[i])
        pulls.append(pull)
    endpoint = view.leave(state)
    adjoints = [view.leave(_slope(loss, len(start.state), who, endpoint))]
    for pull in reversed(pulls):
        adjoints.append(pull(adjoints[-1]))
    return torch.stack(adjoints[::-1]), endpoint


def _compared(fine: Tensor, bends: Bends, coarse: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Return gradients, extrapolated where that is good, and their estimated errors; ``before`` is the coarse p."""
    difference = relative(fine - coarse, fine)
    error = SECOND * (difference * bends.weighted * bends.total.clamp(min=1)).sqrt()
    weight = torch.where(difference <= EXTRAPOLATED, 0.5 / (before / bends.weighted - 1).clamp(min=0.5), 0.0)
    return fine + expand(weight.nan_to_num(), fine) * (fine - coarse), error


def _at_least(rungs: Tensor, wanted: Tensor) -> Tensor:
    """Return the first rungs with at least so many steps, or the last rung."""
    return rungs[torch.searchsorted(rungs, torch.ceil(wanted.clamp(max=float(rungs[-1]))).to(rungs))]


def _next(steps: Tensor, wanted_squared: Tensor, rungs: Tensor) -> Tensor:
    """Return the rungs with the number of steps that is wanted, more than before but not too many more."""
    wanted = wanted_squared.nan_to_num(nan=math.inf).sqrt()
    return _at_least(rungs, torch.minimum(torch.maximum(wanted, steps + 1), LONGEST_JUMP * steps))
