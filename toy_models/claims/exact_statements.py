"""P1, T1a, T1b and P2: statements that hold without a step size, to round-off."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor

from analysis.claims import READING, STATEMENTS, Case, claim, one_step, solution
from analysis.claims.cases import equality_case, round_off
from analysis.claims.states import (
    SHORT,
    FlowStates,
    estimated_gradient,
    loss_gradient,
    target_prediction,
    vjp_by_autograd,
)
from analysis.errors import relative_error
from analysis.flow import HasExactMap, Pullback
from analysis.reference import EPS
from toy_models.claims.common import sample_states

PATHS = ("condot", "cosine", "vp_linear", "ve", "polynomial")


@claim("P1", *STATEMENTS["P1"])
def integral_solution(quick: bool, seed: int) -> Iterator[Case]:
    """Integrate both forms along finely solved trajectories, and fit the local errors of the expansion."""
    problems, paths = (("overlapping",), PATHS[:1]) if quick else (("gaussian", "overlapping", "product256"), PATHS)
    for problem, path in product(problems, paths):
        states = sample_states(problem, path, [solution.T], 4 if quick else 16, seed)
        yield from solution.solution_cases(states, f"{problem}, {path}")


@claim("T1a", *STATEMENTS["T1a"])
def explicit_step(quick: bool, seed: int) -> Iterator[Case]:
    """Compare greedy with the registered end-to-end estimators, and with autograd through the step as printed."""
    problems = ("overlapping",) if quick else ("gaussian", "overlapping", "ring8", "product256", "digits")
    for problem, path in product(problems, PATHS):
        yield from one_step.one_step_cases(sample_states(problem, path, [one_step.T], 6, seed), problem, path)


@claim("T1b", *STATEMENTS["T1b"])
def adjoint_step(quick: bool, seed: int) -> Iterator[Case]:
    """Compare greedy with one step of the adjoint in each reading."""
    problems, paths = (("overlapping",), ("condot", SHORT)) if quick else (("gaussian", "overlapping"), (*PATHS, SHORT))
    for problem, path in product(problems, paths):
        yield from one_step.adjoint_cases(sample_states(problem, path, [one_step.T], 6, seed), problem, path)


@claim("P2", *STATEMENTS["P2"])
def dynamics(quick: bool, seed: int) -> Iterator[Case]:
    """Differentiate the exact map numerically along greedy, and compare with the formula in both readings."""
    problems = ("gaussian", "product256") if quick else ("gaussian", "product256", "radial32")
    for problem, path in product(problems, ("condot",) if quick else ("condot", "cosine", "vp_linear")):
        states = sample_states(problem, path, [one_step.T], 6, seed)
        endpoint = _exact_map(states, states.x)[0]
        moved, limit = _endpoint_derivative(states, estimated_gradient("greedy", states))
        target = target_prediction(states)
        for reading, where in (("x1hat(x)", target(states.x)), ("x_1 = Phi(x)", endpoint)):
            step = vjp_by_autograd(target, states.x, loss_gradient(states.loss, where))
            expected = -_jvp(states, step)
            yield equality_case(READING, f"grad L is taken at {reading}", f"{problem}, {path}", moved, expected, limit)


def _exact_map(states: FlowStates, x: Tensor) -> tuple[Tensor, Pullback]:
    """Return Phi(x), (B, d), and its pullback."""
    assert isinstance(states.flow, HasExactMap)
    return states.flow.exact_endpoint_vjp(x, states.t)


def _jvp(states: FlowStates, v: Tensor) -> Tensor:
    """Return DPhi v, (B, d), from the pullbacks of the basis."""
    pull = _exact_map(states, states.x)[1]
    basis = torch.eye(v.shape[1], dtype=v.dtype)
    return torch.stack([(pull(e.expand_as(v)) * v).sum(1) for e in basis], 1)


def _endpoint_derivative(states: FlowStates, g: Tensor) -> tuple[Tensor, Tensor]:
    """Return d Phi(x - eta g)/d eta at 0 by differences of fourth order, and a bound of its relative error, (B,)."""
    size = g.norm(dim=1, keepdim=True)
    h = EPS**0.2 * states.x.norm(dim=1, keepdim=True)
    ends = {k: _exact_map(states, states.x - k * h * g / size)[0] for k in (-2, -1, 1, 2)}
    near, far = (size * (ends[k] - ends[-k]) / (2 * k * h) for k in (1, 2))
    fourth_order = (4 * near - far) / 3
    # The error of the fourth-order formula is below its distance from the second-order one, and above round-off over h.
    return fourth_order, relative_error(near, fourth_order) + round_off() / EPS**0.2
