r"""T3 and C4.1: the distance of a guided sequence's end from its target, and its order in the step.

The sequence is guidance itself, :math:`x^{(n+1)} = x^{(n)} - \alpha_t^2 g(x^{(n)})` at a fixed t, with a registered
estimator's gradient of :math:`|\cdot - x_1^*|^2/2`; it contracts at the rate :math:`\zeta^2/\lambda` for small zeta.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import torch
from torch import Tensor

from analysis.claims import READING, STATEMENTS, Case, claim
from analysis.claims.cases import equality_case, order_case, round_off
from analysis.claims.guided_ends import OWN_STEP, STEP_SIZES, own_step, printed_step_case
from analysis.claims.states import FlowStates, by_time
from analysis.gradients import ESTIMATORS
from analysis.losses import Linear
from analysis.paths import expand
from analysis.reference import ideal_gradient
from analysis.solvers import SOLVERS
from toy_models.claims.common import path_named, sample_states

ITERATIONS = 60
# The errors of higher orders are at round-off soon: their windows lie at larger zeta, and are shorter.
POWERS = torch.arange(4, dtype=torch.float64)
ZETAS = {1: 0.02 / 2.0**POWERS, 2: 0.08 / 2.0**POWERS, 3: 0.08 / 1.4**POWERS, 4: 0.08 / 1.4**POWERS}
SMOOTH = "product256"  # exact, and wide in every direction against the largest zeta


def guided_states(problem: str, path: str, times: Tensor, n: int, seed: int, name: str, **options: Any) -> FlowStates:
    """Return the states (T * n, d) at which an estimator's guidance ends when it starts at the path's mean."""
    states = sample_states(problem, path, times, n, seed)
    alpha = expand(states.flow.path.alpha(states.t), states.x)
    x = alpha * states.loss.target  # type: ignore[attr-defined]
    for _ in range(ITERATIONS):
        x = x - alpha**2 * ESTIMATORS[name](states.flow, states.loss, x, states.t, **options).gradient
    return replace(states, x=x)


def arrival_case(kind: str, reading: str, case: str, states: FlowStates, name: str, **options: Any) -> Case:
    """Return the case of the premise: the estimator's prediction for the last state is x_1*, to round-off."""
    endpoint = ESTIMATORS[name](states.flow, states.loss, states.x, states.t, **options).endpoint
    conditions = 1 / states.flow.path.alpha(states.t) + states.flow.path.zeta(states.t)
    return equality_case(kind, reading, f"premise, {case}", endpoint, states.loss.target, round_off(conditions))  # type: ignore[attr-defined]


def miss(states: FlowStates) -> tuple[Tensor, float]:
    """Return |Phi(x) - x_1*| (B,), and the floor below which it is round-off."""
    # The gradient of this loss does not vanish where the sample has arrived, so that its error bound means something.
    loss = Linear(torch.ones(states.x.shape[1]))
    truth = ideal_gradient(states.flow, loss, states.x, states.t, max_error=math.inf)
    floor = 10 * float((truth.error_bound * states.loss.target.norm(dim=1)).max())  # type: ignore[attr-defined]
    return (truth.endpoint - states.loss.target).norm(dim=1), floor  # type: ignore[attr-defined]


@claim("T3", *STATEMENTS["T3"])
def greedy_end(quick: bool, seed: int) -> Iterator[Case]:
    """Guide by greedy until the prediction is the target, and fit the sample's remaining distance to it."""
    paths = ("condot", "vp_linear") if quick else ("condot", "cosine", "vp_linear", "ve", "polynomial")
    for path, problem in product(paths, ("gaussian",) if quick else ("gaussian", "overlapping")):
        schedule = path_named(path)
        times = schedule.time_from_zeta(ZETAS[1])
        states, case = guided_states(problem, path, times, 4, seed, "greedy"), f"{problem}, {path}"
        error, floor = miss(states)
        for reading, step in STEP_SIZES.items():
            h = step(schedule, times)
            yield arrival_case(READING, reading, case, states, "greedy")
            yield order_case(READING, reading, case, h, by_time(error, len(times)), 2.0, floor=floor)
    yield printed_step_case(path_named(paths[0]), paths[0])


@claim("C4.1", *STATEMENTS["C4.1"])
def solver_end(quick: bool, seed: int) -> Iterator[Case]:
    """Guide by the gradient through a single step, in t and in zeta, and fit the sample's distance to the target."""
    solvers = ("euler", "midpoint") if quick else ("euler", "midpoint", "heun", "ralston", "rk3", "rk4")
    paths = ("condot", "vp_linear") if quick else ("condot", "cosine", "vp_linear")
    for path, solver in product(paths, solvers):
        yield from _solver_cases(path, solver, seed)
        yield from _solver_cases(path, f"{solver}_zeta", seed)
    yield printed_step_case(path_named(paths[0]), paths[0])


def _solver_cases(path: str, solver: str, seed: int) -> Iterator[Case]:
    schedule, order = path_named(path), SOLVERS[solver].order
    times = schedule.time_from_zeta(ZETAS[order])
    states = guided_states(SMOOTH, path, times, 4, seed, "end_to_end", steps=1, solver=solver)
    case = f"{solver}, {path}"
    yield arrival_case(READING, OWN_STEP, case, states, "end_to_end", steps=1, solver=solver)
    error, floor = miss(states)
    h, error = STEP_SIZES[own_step(solver)](schedule, times), by_time(error, len(times))
    yield order_case(READING, OWN_STEP, case, h, error, order + 1.0, floor=floor)
