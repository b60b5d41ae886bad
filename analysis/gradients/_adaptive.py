r"""Adaptive lookahead: at each state the smallest lookahead whose estimated gradient error is below a tolerance.

All solves step in the canonical path's time (``analysis.canonical``), so the choice is the same on every path.

**No steps.** In the last quarter of that time (zeta at most 0.41) greedy guidance with its leading term is tried first;
the term costs nothing (``analysis.gradients.corrected_greedy``).

**n steps** are the end-to-end gradient with n steps of Ralston's method. The adjoints at its nodes, the last of which
is the gradient, estimate its error without a second solve, from the discrete curvature of the adjoint path: p and q of
``analysis.gradients.mesh``. For n equal steps :math:`p = q/n`; on random mixtures the median error is 0.25 p for n from
3 to 24, and its 95th percentile p. The estimate is :math:`\max(c_1, c_2 q)\,p`: solves whose adjoints turn far do not
resolve the structure between their nodes.

If the estimate is too large, the next solve takes small steps where the curvature was large, as many as bring p below
the tolerance, but at most 2.5 times as many as before. On the same problems such steps err half as much as the same
number of equal steps. Two solves also differ, by D relative to the gradient, and the estimate is then the larger of
:math:`c_3 \sqrt{D\,p \max(1, q)}` and :math:`c_4 D/(p_0/p - 1)`, with :math:`p_0` that of the previous solve. If both
errors were alike and in proportion to p, :math:`D/(p_0/p - 1)` would be the finer one. They are not quite alike, as the
steps differ; where D is small, the gradient is extrapolated by half of that, which is best.

**What is not seen.** Modes far narrower than a step bend the adjoints between two nodes, and the nodes show nothing of
it. Two signs are free. If neighbouring adjoints of a first solve turn, :math:`1 - \cos` above ``LARGEST_TURN``, its
estimate is not believed and a second solve is taken: on mixtures with thin structure so turn 78 % of the first solves
that miss and 27 % of the others, on smooth ones 10 % in all. If the gradient has grown to more than
``LARGEST_GROWTH`` times the shortest adjoint, the path is so unstable that small errors of its states count, and these
are not in any estimate. Such states are reported as unsure, whatever was spent, and so is every state whose last
estimate is above the tolerance. A state that is not unsure is claimed to be within the tolerance.

**The search** begins with :math:`c_0 (1 - s)/\sqrt{tolerance}` equal steps, where 1 - s is the canonical time left.
Only samples that are not accepted yet are computed: n steps cost 2n evaluations and 2n products, no steps one of each.

Choice of the constants: the first of them, and Ralston's method itself, were set on the zoo, forty random mixtures and
the families of ``toy_models.problems.families`` with the seeds that are named there, for 95 % of all their states at
the least cost. On kinds with structure much thinner than a step that rule was wrong in up to a fifth of the states
that it claimed. ``LARGEST_LEADING_TERM`` and the constants of the signs, of :math:`c_4` and of the finer second look
were then set on such kinds (``toy_models.problems.thin_families``), so that each kind is within the tolerance or unsure
in 94 % of its states at 1.12 times the work, and judged on other ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from analysis import checks
from analysis.canonical import canonical_time
from analysis.cost import Cost, metered
from analysis.errors import relative
from analysis.flow import Flow
from analysis.gradients.corrected_greedy import LARGEST_LEADING_TERM, corrected_greedy
from analysis.gradients.mesh_solves import AdjointCurvature, MeshSolves, rows_value_and_gradient
from analysis.gradients.registry import Estimate, register
from analysis.losses import Loss
from analysis.paths import expand

VARIANTS = [{"tolerance": tolerance} for tolerance in (0.3, 0.1, 0.03, 0.01)]
STEP_COUNTS = (*range(1, 11), *range(12, 25, 2), *range(28, 41, 4), *range(48, 65, 8), 80, 96, 128, 192, 256)
LATE = 0.75  # canonical time from which greedy is tried: zeta is at most 0.41
FIRST, LEAST_STEPS = 2.8, 2  # c_0; one step has no curvature
LINEAR, QUADRATIC, SECOND = 0.8, 1.2, 0.45  # c_1, c_2, c_3
EXTRAPOLATED = 0.1  # largest D at which the gradient is
LARGEST_TURN, LARGEST_GROWTH = 0.02, 6.0  # of adjoints: 1 - cos between neighbours, and |gradient| over the least norm
ALIKE, LEAST_FALL, SECOND_LOOK = 1.2, 0.2, 1.3  # c_4, the least p_0/p - 1, and by how much a second look is finer
AIM, LONGEST_JUMP = 0.65, 2.5  # the share of the tolerance that a solve aims at, by c_1 p


@dataclass(frozen=True)
class Choices(Estimate):
    """An estimate, and the choice made for each of B samples.

    Attributes
    ----------
    gradient, endpoint, value, cost : as ``Estimate`` has them
    steps : (B,) integers, steps of the solve; 0 is greedy with its leading term
    error : (B,), the estimated relative error of ``gradient``; above the tolerance where the most steps were not
        enough, and infinite after a single step
    unsure : (B,) booleans, whether the gradient is not claimed to be within the tolerance: the error is above it, or
        the adjoints show signs of what no estimate sees. The gradient is still the best that was computed
    """

    steps: Tensor
    error: Tensor
    unsure: Tensor


class Judged(NamedTuple):
    """Gradients (C, *event) and their estimated errors (C,), and of solves (C,) whether:

    - ``unseen``: structure may have gone unseen, so that the error is not believed
    - ``doubted``: the next solve should be a clearly finer one
    """

    gradient: Tensor
    error: Tensor
    unseen: Tensor
    doubted: Tensor


@register("adaptive", VARIANTS)
def adaptive(
    flow: Flow, loss: Loss, x: Tensor, t: Tensor, *, tolerance: float = 0.1, max_steps: int = 64
) -> tuple[Tensor, Tensor, Tensor]:
    """Take each sample's gradient from its first solve whose estimated relative error is small enough.

    ``tolerance`` is relative and positive; the search ends with the largest step count of at most ``max_steps``,
    whatever its error. ``choices`` also returns the choices, and which
    samples are unsure: their gradients are given all the same.

    Returns
    -------
    tuple
        Gradient and endpoint (B, *event), and the loss there (B,).

    Raises
    ------
    ValueError
        As ``choices`` does.
    """
    chosen = choose(flow, loss, x, t, tolerance, max_steps, Cost())
    return chosen.gradient, chosen.endpoint, chosen.value


def choices(flow: Flow, loss: Loss, x: Tensor, t: Tensor | float, *, tolerance: float, max_steps: int = 64) -> Choices:
    """Compute the gradients of ``adaptive`` at states x (B, *event) and times t (float or (B,)), with its choices.

    Returns
    -------
    Choices
        Of B samples.

    Raises
    ------
    TypeError
        As estimators do.
    ValueError
        As estimators do; for a ``tolerance`` that is not positive and finite, and for ``max_steps`` that is not an
        integer of at least 1.
    """
    x, t = checks.arguments(flow, loss, x, t)
    with metered(flow, x) as (counted, cost):
        return choose(counted, loss, x, t, tolerance, max_steps, cost)


def choose(flow: Flow, loss: Loss, x: Tensor, t: Tensor, tolerance: float, max_steps: int, cost: Cost) -> Choices:
    """Return the choices, adding their cost to the given one."""
    tolerance = checks.positive("tolerance", tolerance)
    max_steps = checks.steps(max_steps, "max_steps")
    counts = torch.tensor([n for n in STEP_COUNTS if n <= max_steps], device=x.device)
    t = t.to(x.device).expand(len(x))
    chosen = _without_steps(flow, loss, x, t, cost)
    solves = MeshSolves.of(flow, loss, x, t, int(counts[-1]))
    # Here and below, an estimate that is not a number is not below the tolerance.
    chosen.unsure[:] = ~(chosen.error <= min(tolerance, LARGEST_LEADING_TERM)) & (t < 1)
    waiting = chosen.unsure.clone()
    left = solves.view.end - solves.view.begin
    steps = _at_least(counts, (FIRST * left / math.sqrt(tolerance)).clamp(min=LEAST_STEPS))
    previous: tuple[Tensor, Tensor] | None = None
    while bool(waiting.any()):
        index = waiting.nonzero()[:, 0]
        fine, chosen.endpoint[index], value, curvature = solves.solve(index, steps[index])
        chosen.value[index] = value.to(chosen.value)
        if previous is None:
            previous = torch.zeros_like(x), torch.zeros_like(left)
            judged = _alone(fine, curvature)
        else:
            judged = _compared(fine, curvature, previous[0][index], previous[1][index])
        chosen.gradient[index], chosen.steps[index] = judged.gradient, steps[index]
        chosen.error[index] = judged.error.to(x)
        unmet = ~(judged.error <= tolerance) | judged.unseen
        waiting[index] = unmet & (steps[index] < counts[-1])
        chosen.unsure[index] = unmet | (curvature.growth > LARGEST_GROWTH)
        previous[0][index], previous[1][index] = fine, curvature.weighted
        least = torch.where(judged.doubted, SECOND_LOOK * steps[index], steps[index] + 1)
        steps[index] = _next(steps[index], least, LINEAR * curvature.ahead / (AIM * tolerance), counts)
    return chosen


def _without_steps(flow: Flow, loss: Loss, x: Tensor, t: Tensor, cost: Cost) -> Choices:
    """Return loss gradients at time 1, corrected greedy for late samples, and infinite errors for the others."""
    size = (len(x),)
    value = x.new_zeros(size, dtype=torch.promote_types(x.dtype, torch.float32))
    steps, error = t.new_zeros(size, dtype=torch.long), x.new_full(size, math.inf)
    chosen = Choices(torch.zeros_like(x), x.clone(), value, cost, steps, error, steps.bool())
    index = (t == 1).nonzero()[:, 0]
    if len(index):
        arrived, chosen.gradient[index] = rows_value_and_gradient(loss, index, x[index], x)
        chosen.value[index], chosen.error[index] = arrived.to(value), 0.0
    index = ((canonical_time(flow.path, t) >= LATE) & (t < 1)).nonzero()[:, 0]
    if len(index):
        late = corrected_greedy(flow, loss, x, t, index)
        chosen.gradient[index], chosen.endpoint[index] = late.gradient, late.endpoint
        chosen.value[index], chosen.error[index] = late.value.to(value), late.error.to(error)
    return chosen


def _alone(fine: Tensor, curvature: AdjointCurvature) -> Judged:
    """Judge first solves by their adjoints alone."""
    error = torch.maximum(LINEAR * curvature.weighted, QUADRATIC * curvature.total * curvature.weighted)
    unseen = (curvature.turn > LARGEST_TURN) | (curvature.growth > LARGEST_GROWTH)
    return Judged(fine, error, unseen=unseen, doubted=unseen)


def _compared(fine: Tensor, curvature: AdjointCurvature, coarse: Tensor, weighted: Tensor) -> Judged:
    """Compare two solves: extrapolate the gradient where they are close, and estimate its error.

    ``coarse`` and ``weighted`` are the gradients and p of the previous solves.

    Returns
    -------
    Judged
        Of C solves.
    """
    difference = relative(fine - coarse, fine)
    error = SECOND * (difference * curvature.weighted * curvature.total.clamp(min=1)).sqrt()
    fall = weighted / curvature.weighted - 1
    weight = torch.where(difference <= EXTRAPOLATED, 0.5 / fall.clamp(min=0.5), 0.0)
    better = fine + expand(weight.nan_to_num(), fine) * (fine - coarse)
    alike = ALIKE * difference / fall.clamp(min=LEAST_FALL).nan_to_num(LEAST_FALL, posinf=math.inf)
    nowhere = torch.zeros_like(alike, dtype=torch.bool)
    return Judged(better, torch.maximum(error, alike), unseen=nowhere, doubted=alike > error)


def _at_least(counts: Tensor, wanted: Tensor) -> Tensor:
    """Return the first step counts of at least ``wanted`` (C,), or the largest count."""
    return counts[torch.searchsorted(counts, torch.ceil(wanted.clamp(max=float(counts[-1]))).to(counts))]


def _next(steps: Tensor, least: Tensor, wanted_squared: Tensor, counts: Tensor) -> Tensor:
    """Return the next step counts: at least so many, but not too many more than before."""
    wanted = wanted_squared.nan_to_num(nan=math.inf).sqrt()
    return _at_least(counts, torch.minimum(torch.maximum(wanted, least), LONGEST_JUMP * steps))
