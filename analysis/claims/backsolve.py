"""D7 on any flow: the distance of the back-solved adjoint from the gradient of the discrete map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from analysis.claims.cases import order_case
from analysis.claims.ledger import INSTEAD, PRINTED, Case
from analysis.claims.states import FlowStates, estimated_gradient
from analysis.errors import relative_error
from analysis.reference import Reference
from analysis.solvers import SOLVERS

CONSTANT = "O(1) as printed: it does not fall with the steps"
FALLS = "O(h^p): it falls at the solver's order, with a constant that contraction onto thin directions makes large"


def gradients_over_steps(states: FlowStates, name: str, solver: str, steps: Sequence[int]) -> Tensor:
    """Return an estimator's gradients (n, B, d) with each number of steps."""
    return torch.stack([estimated_gradient(name, states, steps=count, solver=solver) for count in steps])


def relative_errors(measured: Tensor, expected: Tensor) -> Tensor:
    """Return relative errors (n, B) of gradients (n, B, d) against others, (n, B, d) or (B, d)."""
    return torch.stack([relative_error(*pair) for pair in zip(measured, expected.expand_as(measured), strict=True)])


def inconsistency_cases(
    states: FlowStates, truth: Reference, solver: str, steps: Sequence[int], case: str
) -> Iterator[Case]:
    """Fit the order of backsolve's inconsistency, and of its error as the premise that it solves the adjoint."""
    h, order = 1 / torch.tensor(steps, dtype=torch.float64), float(SOLVERS[solver].order)
    floor = 10 * float(truth.error_bound.max())
    backsolve = gradients_over_steps(states, "adjoint_backsolve", solver, steps)
    error = relative_errors(backsolve, truth.gradient)
    distance = relative_errors(backsolve, gradients_over_steps(states, "end_to_end", solver, steps))
    for kind, reading in ((PRINTED, CONSTANT), (INSTEAD, FALLS)):
        yield order_case(kind, reading, f"premise, error to the ideal gradient, {case}", h, error, order, floor=floor)
    yield order_case(PRINTED, CONSTANT, case, h, distance, 0.0, floor=floor, rule="at most")
    yield order_case(INSTEAD, FALLS, case, h, distance, order, floor=floor)
