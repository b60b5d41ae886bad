"""One step of a planned method, whole solves, and their exact discrete adjoints.

Reversing the linear combinations of a step and pulling back through each of its evaluations gives the gradient of the
discrete map.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from analysis.flow import Flow, Pullback
from analysis.paths import expand
from analysis.plan import Row, StepPlan

Carry = tuple[Tensor, ...]  # the state, then the evaluations that a multistep method remembers
CarryPullback = Callable[[Carry], Carry]


def _combine(row: Row, terms: Sequence[Tensor]) -> Tensor:
    return functools.reduce(torch.add, [expand(c, v) * v for c, v in zip(row, terms, strict=True) if c is not None])


def begin(x: Tensor, plan: StepPlan) -> Carry:
    """Return the carry before the first step: the state, and zeros for the history, which the step does not use."""
    return (x, *[torch.zeros_like(x)] * plan.history)


def advance(flow: Flow, carry: Carry, plan: StepPlan) -> Carry:
    """Return the carry after one step."""
    terms = list(carry)
    for time, readout, row in zip(plan.times, plan.readouts, plan.rows, strict=False):
        terms.append(flow.predict(_combine(row, terms), time, readout))
    return (_combine(plan.rows[-1], terms), *terms[len(terms) - plan.history :])


def advance_vjp(flow: Flow, carry: Carry, plan: StepPlan) -> tuple[Carry, CarryPullback]:
    """Return the carry after one step and the pullback of the step map."""
    terms, pulls = list(carry), []
    for time, readout, row in zip(plan.times, plan.readouts, plan.rows, strict=False):
        value, pull = flow.predict_vjp(_combine(row, terms), time, readout)
        terms.append(value)
        pulls.append(pull)
    recent = len(terms) - plan.history

    def pullback(cotangents: Carry) -> Carry:
        adjoints: list[Tensor | None] = [_scaled(c, cotangents[0]) for c in plan.rows[-1]]
        adjoints[recent:] = [_add(a, v) for a, v in zip(adjoints[recent:], cotangents[1:], strict=True)]
        for i in reversed(range(len(pulls))):
            if (adjoint := adjoints.pop()) is not None:
                state = pulls[i](adjoint)
                adjoints = [_add(a, _scaled(c, state)) for a, c in zip(adjoints, plan.rows[i], strict=True)]
        return tuple(torch.zeros_like(carry[0]) if a is None else a for a in adjoints)

    return (_combine(plan.rows[-1], terms), *terms[recent:]), pullback


def _scaled(coefficient: Tensor | None, v: Tensor) -> Tensor | None:
    return None if coefficient is None else expand(coefficient, v) * v


def _add(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


def _one_step(plan: StepPlan) -> StepPlan:
    if plan.history:
        raise ValueError("solver must be a one-step method here, and this one remembers the step before")
    return plan


def step(flow: Flow, x: Tensor, plan: StepPlan) -> Tensor:
    """Return the state (B, *event) after one step of a one-step method from x; ``ValueError`` for a multistep one."""
    return advance(flow, (x,), _one_step(plan))[0]


def step_vjp(flow: Flow, x: Tensor, plan: StepPlan) -> tuple[Tensor, Pullback]:
    """Return the state (B, *event) after one step of a one-step method, and the pullback of the step map."""
    (end,), pull = advance_vjp(flow, (x,), _one_step(plan))
    return end, lambda v: pull((v,))[0]


def solve(flow: Flow, x: Tensor, plan: StepPlan) -> Tensor:
    """Return the state (B, *event) after all steps of a plan from x (B, *event)."""
    carry = begin(x, plan)
    for i in range(len(plan)):
        carry = advance(flow, carry, plan[i])
    return carry[0]


def solve_vjp(flow: Flow, x: Tensor, plan: StepPlan) -> tuple[Tensor, Pullback]:
    """Return the state (B, *event) after all steps, and the pullback of the discrete map, step by step."""
    carry, pulls = begin(x, plan), []
    for i in range(len(plan)):
        carry, pull = advance_vjp(flow, carry, plan[i])
        pulls.append(pull)

    def pullback(v: Tensor) -> Tensor:
        cotangents = begin(v, plan)  # the past of the last step has no cotangent
        for pull in reversed(pulls):
            cotangents = pull(cotangents)
        return cotangents[0]

    return carry[0], pullback
