"""D7: how far solving the adjoint equation back together with the state is from the gradient of the discrete map."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from analysis.claims import INSTEAD, PRINTED, Case, claim
from analysis.errors import relative_error
from analysis.reference import Reference, ideal_gradient
from analysis.solvers import SOLVERS
from toy_models.claims import common
from toy_models.claims.common import Draw

CONSTANT = "O(1) as printed: it does not fall with the steps"
FALLS = "O(h^p): it falls at the solver's order, with a constant that contraction onto thin directions makes large"
T = 0.2
REPORTED = 0.13  # of the gradient, with Euler at 32 to 64 steps: the least of theory D7's trial
PERCENTILE = 0.9


def _gradients(drawn: Draw, name: str, solver: str, steps: list[int]) -> Tensor:
    return torch.stack([common.gradient(name, drawn, steps=count, solver=solver) for count in steps])


def _apart(found: Tensor, expected: Tensor) -> Tensor:
    """Return relative errors (n, B) of gradients (n, B, d) to others, (n, B, d) or (B, d)."""
    return torch.stack([relative_error(*pair) for pair in zip(found, expected.expand_as(found), strict=True)])


@claim(
    "D7",
    "The adjoint that re-integrates x backward has an O(1) inconsistency with the gradient of the discrete map.",
    "this project (D7)",
)
def backsolve(quick: bool, seed: int) -> Iterator[Case]:
    """Fit how the inconsistency falls on smooth flows, and measure its upper percentile on strong contraction."""
    counts = [32, 48, 64, 96, 128]
    for problem in ("product256",) if quick else ("product256", "gaussian", "overlapping"):
        drawn = common.states(problem, "condot", [T], 8 if quick else 32, seed)
        for solver in ("euler",) if quick else ("euler", "midpoint"):
            steps = counts if solver == "euler" else [4 * n for n in counts]  # where its error falls at its order
            truth = ideal_gradient(drawn.flow, drawn.loss, drawn.x, drawn.t)
            yield from falling(drawn, truth, solver, steps, f"{solver}, {problem}")
    thin = [32] if quick else [32, 64]
    drawn = common.states("anisotropic", "condot", [T], 128 if quick else 512, seed)
    found, expected = (_gradients(drawn, name, "euler", thin) for name in ("adjoint_backsolve", "end_to_end"))
    for count, errors in zip(thin, _apart(found, expected), strict=True):
        value, low, high = _percentile(errors)
        case = f"90th percentile at {count} Euler steps, anisotropic"
        yield Case(INSTEAD, FALLS, case, value, low, high, REPORTED, "at least")


def falling(drawn: Draw, truth: Reference, solver: str, steps: list[int], case: str) -> Iterator[Case]:
    """Fit how backsolve's inconsistency falls, and as the premise that it solves the adjoint equation, its error."""
    h, order = 1 / torch.tensor(steps, dtype=torch.float64), float(SOLVERS[solver].order)
    floor, found = 10 * float(truth.error_bound.max()), _gradients(drawn, "adjoint_backsolve", solver, steps)
    error, apart = _apart(found, truth.gradient), _apart(found, _gradients(drawn, "end_to_end", solver, steps))
    for kind, reading in ((PRINTED, CONSTANT), (INSTEAD, FALLS)):
        yield common.order(kind, reading, f"premise, error to the ideal gradient, {case}", h, error, order, floor=floor)
    yield common.order(PRINTED, CONSTANT, case, h, apart, 0.0, floor=floor, rule="at most")
    yield common.order(INSTEAD, FALLS, case, h, apart, order, floor=floor)


def _percentile(values: Tensor) -> tuple[float, float, float]:
    """Return a percentile of independent values with its 95 % interval, from the binomial law of their ranks."""
    half = 1.96 * (PERCENTILE * (1 - PERCENTILE) / len(values)) ** 0.5
    value, low, high = (float(values.quantile(min(PERCENTILE + step, 1.0))) for step in (0.0, -half, half))
    return value, low, high
