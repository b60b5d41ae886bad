"""T1a and T1b on any flow: greedy as one explicit step of the flow, and as one step of the adjoint."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from analysis.claims.cases import deterministic_case, equality_case, round_off
from analysis.claims.ledger import PRINTED, READING, Case
from analysis.claims.states import (
    SHORT,
    FlowStates,
    estimated_gradient,
    jacobian_by_autograd,
    loss_gradient,
    relative_condition,
    target_prediction,
    vjp_by_autograd,
)
from analysis.errors import relative_error
from analysis.paths import expand

T = 0.4
IN_GAMMA = "as printed, in gamma and equally in zeta"
# Where else one step is greedy: each reading adds a coordinate to what is printed, and names the paths.
IN_T = {
    "in gamma, in zeta, and in t on CondOT but on no other path": ("condot",),
    "in gamma, in zeta, and in t where alpha and sigma are straight lines in t (CondOT, VE), nowhere else": (
        "condot",
        "ve",
    ),
}


def one_step_cases(states: FlowStates, problem: str, path: str) -> Iterator[Case]:
    """Compare one step in gamma, in zeta and in t with greedy: equal to round-off, or different beyond it."""
    greedy, limit = estimated_gradient("greedy", states), _step_round_off(states)
    steps = {f"{name}, {problem}, {path}": gradient for name, gradient in _one_step_gradients(states).items()}
    for kind, reading in ((PRINTED, IN_GAMMA), *((READING, r) for r in IN_T)):
        yield from (equality_case(kind, reading, case, step, greedy, limit) for case, step in steps.items())
    euler = estimated_gradient("end_to_end", states, steps=1, solver="euler")
    for reading, straight in IN_T.items():
        case = equality_case(READING, reading, f"euler in t, {problem}, {path}", euler, greedy, limit)
        yield case if path in straight else _difference_case(reading, case, euler, greedy)


def _difference_case(reading: str, case: Case, measured: Tensor, other: Tensor) -> Case:
    """Return the case that two batches differ by more than an equality would allow."""
    least = float(relative_error(measured, other).min())
    return deterministic_case(READING, reading, case.case, least, case.limit, "at least")


def _one_step_gradients(states: FlowStates) -> dict[str, Tensor]:
    def step(x: Tensor) -> Tensor:
        path, t, one = states.flow.path, states.t[0], torch.ones((), dtype=torch.float64)
        ratio = path.sigma(one) / path.sigma(t)  # sigma_1 gamma_1 = alpha_1, also where gamma_1 is infinite
        return ratio * x + (path.alpha(one) - path.alpha(t) * ratio) * target_prediction(states)(x)

    by_hand = vjp_by_autograd(step, states.x, loss_gradient(states.loss, step(states.x)))
    solved = {s: estimated_gradient("end_to_end", states, steps=1, solver=s) for s in ("ddim", "euler_zeta")}
    return {"the printed step by autograd": by_hand, "end-to-end in gamma": solved["ddim"]} | {
        "end-to-end in zeta": solved["euler_zeta"]
    }


def _step_round_off(states: FlowStates) -> Tensor:
    """Return the round-off of one step: the condition of its gradient, and the size of terms that cancel."""
    target = target_prediction(states)

    def loss_gradient_at_target(x: Tensor) -> Tensor:
        return loss_gradient(states.loss, target(x).detach())

    def gradient(x: Tensor) -> Tensor:
        return vjp_by_autograd(target, x, loss_gradient_at_target(x))

    terms = loss_gradient_at_target(states.x) / expand(states.flow.path.alpha(states.t), states.x)
    value = gradient(states.x)
    cancelled = relative_error(value + terms, value)  # |terms| / |gradient|
    return round_off(relative_condition(gradient, states.x), cancelled * (1 + states.x.norm(dim=1)))


def adjoint_cases(states: FlowStates, problem: str, path: str) -> Iterator[Case]:
    """Compare every reading of the adjoint's step with greedy (DDIM's gradient where noise is left at the end)."""
    options = {"steps": 1, "solver": "ddim"} if path == SHORT else {}
    greedy = estimated_gradient("end_to_end" if options else "greedy", states, **options)
    limit = _step_round_off(states)
    for (kind, reading), adjoint in _adjoint_readings(states).items():
        yield equality_case(kind, reading, f"{problem}, {path}", adjoint, greedy, limit)


def _adjoint_readings(states: FlowStates) -> dict[tuple[str, str], Tensor]:
    """Return the adjoint at t after one step in each reading, from the loss gradient at the end of the same step."""
    path, t, one = states.flow.path, states.t[0], torch.ones((), dtype=torch.float64)
    alpha, sigma = [path.alpha(t), path.alpha(one)], [path.sigma(t), path.sigma(one)]
    readout = path.combination(alpha[1].expand_as(states.t), sigma[1].expand_as(states.t), states.t)
    old = loss_gradient(states.loss, states.flow.predict(states.x, states.t, readout))
    matrix = jacobian_by_autograd(target_prediction(states), states.x).mT
    gain = alpha[1] - alpha[0] * sigma[1] / sigma[0]  # sigma_1 h, finite where h is not
    new_jacobian = sigma[1] / sigma[0] * old + gain * torch.einsum("bij,bj->bi", matrix, old)
    # The implicit step (I - h sigma_t J^T) a' = a in units of sigma, times sigma_1: at sigma_1 = 0 its solution is 0.
    system = sigma[1] * torch.eye(states.x.shape[1], dtype=torch.float64) - gain * sigma[0] * matrix
    implicit = sigma[1] ** 2 / sigma[0] * torch.linalg.solve(system, old)
    return {
        (PRINTED, "fully implicit: Jacobian at the new state, adjoint at the new state, a linear solve"): implicit,
        (READING, "Jacobian at the new state x_t, adjoint at the old one"): new_jacobian,
        (READING, "explicit: Jacobian and adjoint at the old state"): estimated_gradient(
            "adjoint_deis", states, steps=1, order=1
        ),
    }
