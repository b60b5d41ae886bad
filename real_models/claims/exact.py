r"""Claims that hold without a step size, and the claims about where guided samples end, measured on a learned flow.

The statements, readings and limits are those of ``analysis.claims``; the states are those of the subject, and the
truth is ``analysis.converged`` in float64. Some claims of the paper start from a sequence that guidance brings to its
target. Guidance that is projected onto a learned manifold need not reach a sample chosen beforehand, so the target here
is the estimator's own prediction for the state, which makes the premise hold exactly.

Not measured: D3, which is about one Gaussian, and of D1 the part with D in front and the bound, which need whole
Jacobians along the trajectory.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor

from analysis import canonical, solvers
from analysis.canonical import CANONICAL
from analysis.claims import READING, Case, guided_ends, one_step, solution
from analysis.claims.cases import equality_case, order_case, round_off
from analysis.claims.states import (
    SHORT,
    FlowStates,
    by_time,
    estimated_gradient,
    loss_gradient,
    path_named,
    target_prediction,
    vjp_by_autograd,
)
from analysis.errors import relative_error
from analysis.gradients import ESTIMATORS
from analysis.reference import EPS, SAFETY
from analysis.solvers import SOLVERS
from real_models.claims.learned import Learned, on_network

PATHS = ("condot", "cosine", "vp_linear")
OWN_PREDICTION = "x_1* is what the estimator predicts for the state itself; {}"


@on_network("P1")
def integral_solution(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Integrate both forms along a finely solved trajectory, and fit the local errors of the expansion."""
    yield from solution.solution_cases(learned.sample_states("condot", [solution.T], 2, seed), "network, condot")


@on_network("T1a")
def explicit_step(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Compare greedy with single steps, registered and by autograd."""
    for path in PATHS[:1] if quick else PATHS:
        states = learned.sample_states(path, [one_step.T], 1 if quick else 6, seed)
        yield from one_step.one_step_cases(states, "network", path)


@on_network("T1b")
def adjoint_step(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Compare greedy with one adjoint step; its implicit form needs the whole Jacobian and is tried on one state."""
    for path in ("condot", SHORT):
        yield from one_step.adjoint_cases(learned.sample_states(path, [one_step.T], 1, seed), "network", path)


@on_network("P2")
def dynamics(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Differentiate the solved map by differences along greedy, and by forward mode along the formula's step."""
    states = learned.sample_states("condot", [learned.late], 3, seed)
    plan = solvers.plan("rk4", states.flow.path, solvers.uniform_grid(states.t[0], torch.ones(()).double(), 12))

    def end(x: Tensor) -> Tensor:
        return solvers.solve(states.flow, x, plan)

    g = estimated_gradient("greedy", states)
    h = EPS**0.2 * states.x.norm(dim=1, keepdim=True) / g.norm(dim=1, keepdim=True)
    near, far = ((end(states.x - k * h * g) - end(states.x + k * h * g)) / (2 * k * h) for k in (1, 2))
    moved = (4 * near - far) / 3
    limit = relative_error(near, moved) + round_off() / EPS**0.2
    target = target_prediction(states)
    for reading, where in (("x1hat(x)", target(states.x)), ("x_1 = Phi(x)", end(states.x))):
        step = vjp_by_autograd(target, states.x, loss_gradient(states.loss, where))
        expected = -torch.func.jvp(end, (states.x,), (step,))[1]
        yield equality_case(READING, f"grad L is taken at {reading}", "network, condot", moved, expected, limit)


@functools.cache
def _ends(learned: Learned, path: str, order: int, seed: int) -> tuple[FlowStates, Tensor, Tensor, float]:
    """Return late states for a method's order, their times (T,), their endpoints, and a floor of distances to those."""
    times = path_named(path).time_from_zeta(learned.window(order))
    states = learned.sample_states(path, times, 2, seed)
    view = canonical.view(states.flow, states.t)
    plans = [solvers.plan("rk4", CANONICAL, solvers.uniform_grid(view.begin, view.end, count)) for count in (8, 4)]
    fine, coarse = (view.leave(solvers.solve(view.flow, view.enter(states.x), plan)) for plan in plans)
    # The finer end errs by about a fifteenth of the distance; round-off of a state is that of its size.
    floor = float((fine - coarse).norm(dim=1).max()) + SAFETY * EPS * float(fine.norm(dim=1).max())
    return states, times, fine, floor


def _miss(learned: Learned, path: str, solver: str, seed: int) -> tuple[Tensor, Tensor, float]:
    """Return times (T,), distances (T, n) of the sample from the end that one step or greedy predicts, and a floor."""
    options: dict[str, Any] = {} if solver == "greedy" else {"steps": 1, "solver": solver}
    name = "end_to_end" if options else "greedy"
    order = 1 if solver == "greedy" else SOLVERS[solver].order
    states, times, end, floor = _ends(learned, path, order, seed)
    endpoint = ESTIMATORS[name](states.flow, states.loss, states.x, states.t, **options).endpoint
    return times, by_time((end - endpoint).norm(dim=1), len(times)), floor


@on_network("T3")
def greedy_end(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Fit the order of the distance between the sample and its own greedy prediction."""
    for path in PATHS:
        times, error, floor = _miss(learned, path, "greedy", seed)
        for reading, step in guided_ends.STEP_SIZES.items():
            h, said = step(path_named(path), times), OWN_PREDICTION.format(reading)
            yield order_case(READING, said, f"network, {path}", h, error, 2.0, floor=floor)
    yield guided_ends.printed_step_case(path_named(PATHS[0]), PATHS[0])


@on_network("C4.1")
def solver_end(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Fit the order of the distance between the sample and the end of a single step, in t and in zeta."""
    reading = OWN_PREDICTION.format(guided_ends.OWN_STEP)
    for path, name in product(("condot", "cosine"), ("euler", "midpoint", "heun", "rk4")):
        for solver in (name, f"{name}_zeta"):
            order, (times, error, floor) = SOLVERS[solver].order, _miss(learned, path, solver, seed)
            h = guided_ends.STEP_SIZES[guided_ends.own_step(solver)](path_named(path), times)
            yield order_case(READING, reading, f"{solver}, network, {path}", h, error, order + 1.0, floor=floor)
    yield guided_ends.printed_step_case(path_named(PATHS[0]), PATHS[0])
