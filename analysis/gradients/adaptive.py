r"""Adaptive lookahead: at each state the smallest lookahead whose estimated gradient error is below a tolerance.

Time. Every affine path is the cosine path after a change of time and scale (``flow.Reparametrized``), so all rungs step
in that path's time, where fields are smooth and finite at both ends: the choice is the same on every path.

**Rung 0** is greedy guidance with its leading term, which costs nothing. In :math:`y = x/\alpha`,
:math:`z = \sigma/\alpha` greedy follows the tangent, :math:`r = y - z y'`, and its leading error is
:math:`\tfrac12 z^2 y''` (``analysis.leading_term``). A smooth density does not depend on z to first order, so
:math:`\hat x_0 = y' \approx z\,y''`: the leading term is :math:`\tfrac12 z y' = \tfrac12 (y - r)`, half of the way
from the target prediction back to the state, and needs no derivative. With :math:`v = \nabla L(r)`,
:math:`g = Dr^T v`, and :math:`Dr \approx I/\alpha` to the order that matters,

.. math:: g^* - g \approx \tfrac12 (v/\alpha - g) + \bigl[\nabla L(r + \tfrac12 (y - r)) - v\bigr]/\alpha .

For one Gaussian, with D the eigenvalues of :math:`\alpha D\hat x_1`, greedy's error in the Jacobian is
:math:`\sqrt D - D \le \tfrac12 (1 - D)`: the estimate is then also a bound. The gradient returned is the corrected one.
Where a path ends with :math:`\sigma_1 > 0`, r is the DDIM step to its end, and one half becomes
:math:`\tfrac12 (1 - \zeta_1/\zeta)`.

**Rung n** is the end-to-end gradient with n midpoint steps. It is compared with the rung before: where m and n steps
are both in the asymptotic regime, Richardson's extrapolation :math:`G_n + (G_n - G_m)/((n/m)^2 - 1)` is better than
either, and is returned. Its error is estimated by :math:`c\,|G_n - G_m|` with c = 1/3, the asymptotic error of
:math:`G_n` after doubling, whatever n/m; 1/2 where m = 1 and 2 where m is rung 0, which are rarely asymptotic. An
estimate above 0.15 (0.1 for rung 0) is not believed, however wide the tolerance: it says little about later terms.

How these numbers were found: Richardson's third is theory; that the others must be more careful is too, but not by how
much. They were set on random mixtures and on overlapping and ring8 along the CondOT and cosine paths, and made more
careful, once each, when other problems fell short of 95 % (other paths too). So the shares in ``figures/adaptive.py``
are not quite those of problems never seen.

**Climbing.** The next rung is the one at which the estimate would meet the tolerance if it fell as n^-3, at least the
next one and at most three times as many steps. Only the samples that are not accepted yet are computed, and the first
evaluation, at (x, t), serves all rungs: rung n costs 2n - 1 evaluations and 2n - 1 products per sample on it, and each
round one product of the whole batch through the first evaluation; or, where fewer than half of the samples are left,
one more evaluation of these and its product.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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
RUNGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
CLOCK = Cosine()
First = Callable[[Tensor], tuple[Tensor, Pullback]]
LARGEST_LEADING_TERM, LARGEST_DIFFERENCE = 0.1, 0.15  # larger estimates are not believed
FACTOR_AFTER_GREEDY, FACTOR_AFTER_ONE, FACTOR = 2.0, 1 / 2, 1 / 3
RATE, AIM, LONGEST_JUMP = 3.0, 0.7, 3


@dataclass(frozen=True)
class Choices:
    """What was chosen for each of B samples.

    Attributes
    ----------
    gradient, endpoint : (B, *event), the gradient and where its lookahead arrives
    steps : (B,) integers, midpoint steps; 0 is greedy with its leading term
    error : (B,), the estimated relative error of ``gradient``; above the tolerance where the last rung was not enough
    cost : what it took
    """

    gradient: Tensor
    endpoint: Tensor
    steps: Tensor
    error: Tensor
    cost: Cost


@dataclass(frozen=True)
class Start:
    """The first evaluation, r at (x, t), as all rungs use it: on the cosine path, in its time and scale.

    The velocity at the state is ``on_value * r + on_x * state``; ``pull`` is the pullback of r in x for the whole
    batch, and ``first`` evaluates r anew for the samples of an index.
    """

    flow: Flow
    first: First
    state: Tensor
    time: Tensor
    scale: Tensor
    end: Tensor
    end_scale: Tensor
    value: Tensor
    pull: Pullback
    on_value: Tensor
    on_x: Tensor


@register("adaptive", VARIANTS)
def adaptive(
    flow: Flow, loss: Loss, x: Tensor, t: Tensor, *, tolerance: float, max_steps: int = 64
) -> tuple[Tensor, Tensor]:
    """Return the gradient (B, *event) of the first rung of each sample whose estimated relative error is small enough.

    ``tolerance`` is relative and positive; the climb ends with the last rung of at most ``max_steps`` midpoint steps,
    whatever its error. ``choices`` says what was chosen.
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
    start, found, plain = _rung_zero(flow, loss, x, t.to(x.device).expand(len(x)))
    accepted = found.error <= min(tolerance, LARGEST_LEADING_TERM)
    before = torch.where(torch.isfinite(expand(found.error, x)), found.gradient, plain)
    wanted = min(tolerance, LARGEST_DIFFERENCE)
    steps, last = torch.ones_like(found.steps), found.steps
    while not bool(accepted.all()):
        who = (~accepted).nonzero()[:, 0]
        gradient, endpoint = _midpoint_rungs(start, loss, who, steps)
        better, error = _compare(gradient[who], before[who], steps[who], last[who])
        found.gradient[who], found.endpoint[who] = better, endpoint[who]
        found.steps[who], found.error[who] = steps[who], error
        accepted[who] = (error <= wanted) | (steps[who] == rungs[-1])
        before, last = gradient, steps
        steps = steps.index_copy(0, who, _next(steps[who], error / wanted, rungs))
    return found


def _rung_zero(flow: Flow, loss: Loss, x: Tensor, t: Tensor) -> tuple[Start, Choices, Tensor]:
    """Return the first evaluation, greedy corrected by its leading term with that term's share, and plain greedy."""
    path, one = flow.path, t.new_ones(())
    alpha, sigma, alpha_1, sigma_1 = path.alpha(t), path.sigma(t), path.alpha(one), path.sigma(one)

    def first(who: Tensor) -> tuple[Tensor, Pullback]:
        s = t[who]
        return flow.predict_vjp(x[who], s, path.combination(alpha_1.expand_as(s), sigma_1.expand_as(s), s))

    value, pull = first(torch.arange(len(x), device=x.device))
    slope = value_and_gradient(loss, value)[1]
    plain = pull(slope)
    # zeta_1/zeta; where the path ends without noise it is 0, also at the end itself
    spread = expand(alpha_1 / alpha, x).nan_to_num(posinf=0.0)
    half = expand((1 - (sigma_1 * alpha / (alpha_1 * sigma) if float(sigma_1) else 0 * t)) / 2, x)
    jacobian_part = half * (spread * slope - plain)
    # A loss is not asked for its gradient where the leading term would move the prediction out of all proportion.
    near = (alpha > 0) & (relative(jacobian_part, plain) <= 2 * LARGEST_LEADING_TERM)
    moved = torch.where(expand(near, x).bool(), value + half * (spread * x - value), value)
    term = jacobian_part + spread * (value_and_gradient(loss, moved)[1] - slope)
    error = torch.where(near, relative(term, plain + term), torch.inf)
    start = _start(flow, x, t, first, value, pull)
    return start, Choices(plain + term, moved, torch.zeros_like(t, dtype=torch.long), error, Cost()), plain


def _start(flow: Flow, x: Tensor, t: Tensor, first: First, value: Tensor, pull: Pullback) -> Start:
    path, one = flow.path, t.new_ones(())
    time, end = (CLOCK.time_from_zeta(path.zeta(s)) for s in (t, one))
    scale, end_scale = (expand(torch.hypot(path.alpha(s), path.sigma(s)), x) for s in (t, one))
    # At the end itself nothing is left to step over, and r does not determine the velocity: rung 0 is exact there.
    inside = torch.where(t < 1, time, time.new_zeros(()))
    have = CLOCK.combination(path.alpha(one).expand_as(t), path.sigma(one).expand_as(t), inside)
    on_value, on_x = CLOCK.change_readout(inside, have, CLOCK.readout("velocity", inside))
    coefficients = expand(on_value, x), expand(on_x, x)
    return Start(flow.with_path(CLOCK), first, x / scale, time, scale, end, end_scale, value, pull, *coefficients)


def _midpoint_rungs(start: Start, loss: Loss, who: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Return gradients and endpoints (B, *event) of ``steps`` (B,) midpoint steps for the samples ``who``."""
    endpoint, direct = start.value.clone(), torch.zeros_like(start.value)
    through = torch.zeros_like(direct)  # what goes back through the first evaluation, of all samples at once
    for n in steps[who].unique().tolist():
        some = who[steps[who] == n]
        direct[some], through[some], endpoint[some] = _one_rung(start, loss, some, n)
    pulled = torch.zeros_like(through)
    if 2 * len(who) < len(steps):
        pulled[who] = start.first(who)[1](through[who])
    else:
        pulled = start.pull(through)
    return (direct + start.on_x * through) / start.scale + start.on_value * pulled, endpoint


def _one_rung(start: Start, loss: Loss, who: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the cotangents of state and first velocity, and the endpoint, of n midpoint steps for some samples."""
    grid = solvers.uniform_grid(start.time[who], start.end, n)
    state, middle = start.state[who], grid[0] + (grid[1] - grid[0]) / 2
    h = expand(grid[1] - grid[0], state)
    first = start.on_value[who] * start.value[who] + start.on_x[who] * state
    rate, pull_rate = start.flow.predict_vjp(state + h / 2 * first, middle, CLOCK.readout("velocity", middle))
    end, pull_rest = state + h * rate, None
    if n > 1:
        end, pull_rest = solvers.solve_vjp(start.flow, end, solvers.plan("midpoint", CLOCK, grid[1:]))
    # The loss may hold a target for each sample, so that it is asked for the whole batch; the others stay where r is.
    whole = start.value.index_copy(0, who, start.end_scale * end)
    adjoint = start.end_scale * value_and_gradient(loss, whole)[1][who]
    adjoint = pull_rest(adjoint) if pull_rest else adjoint
    back = pull_rate(h * adjoint)
    return adjoint + back, h / 2 * back, whole[who]


def _compare(fine: Tensor, coarse: Tensor, steps: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """Return the extrapolated gradients and their estimated relative errors, from two rungs with these step counts."""
    weight = torch.where(last > 0, 1 / ((steps / last).square() - 1), 0.0)
    factor = torch.where(last > 1, FACTOR, torch.where(last == 1, FACTOR_AFTER_ONE, FACTOR_AFTER_GREEDY))
    better = fine + expand(weight, fine) * (fine - coarse)
    return better, factor * relative(fine - coarse, better)


def _next(steps: Tensor, excess: Tensor, rungs: Tensor) -> Tensor:
    """Return the rungs at which estimates ``excess`` times too large would be small enough."""
    jump = (excess / AIM).nan_to_num(nan=math.inf) ** (1 / RATE)
    wanted = torch.ceil(steps * jump.clamp(1, LONGEST_JUMP))
    enough = torch.searchsorted(rungs, wanted.to(rungs)).clamp(max=len(rungs) - 1)
    above = torch.searchsorted(rungs, steps, right=True).clamp(max=len(rungs) - 1)
    reach = torch.searchsorted(rungs, LONGEST_JUMP * steps, right=True) - 1
    return rungs[torch.maximum(above, torch.minimum(enough, reach))]
