"""D7: the distance of the back-solved adjoint from the gradient of the discrete map."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from analysis.claims import INSTEAD, RANKS, STATEMENTS, Case, claim
from analysis.claims.backsolve import FALLS, gradients_over_steps, inconsistency_cases, relative_errors
from analysis.reference import ideal_gradient
from toy_models.claims.common import sample_states

T = 0.2
REPORTED = 0.13  # of the gradient, with Euler at 32 to 64 steps: the least of theory D7's trial
PERCENTILE = 0.9


@claim("D7", *STATEMENTS["D7"])
def backsolve(quick: bool, seed: int) -> Iterator[Case]:
    """Fit the order of the inconsistency on smooth flows, and measure its upper percentile under strong contraction."""
    counts = [32, 48, 64, 96, 128]
    for problem in ("product256",) if quick else ("product256", "gaussian", "overlapping"):
        states = sample_states(problem, "condot", [T], 8 if quick else 32, seed)
        truth = ideal_gradient(states.flow, states.loss, states.x, states.t)
        for solver in ("euler",) if quick else ("euler", "midpoint"):
            steps = counts if solver == "euler" else [4 * n for n in counts]  # where its error falls at its order
            yield from inconsistency_cases(states, truth, solver, steps, f"{solver}, {problem}")
    yield from _contraction_cases(quick, seed)


def _contraction_cases(quick: bool, seed: int) -> Iterator[Case]:
    steps = [32] if quick else [32, 64]
    states = sample_states("anisotropic", "condot", [T], 128 if quick else 512, seed)
    backsolve = gradients_over_steps(states, "adjoint_backsolve", "euler", steps)
    exact = gradients_over_steps(states, "end_to_end", "euler", steps)
    for count, errors in zip(steps, relative_errors(backsolve, exact), strict=True):
        case = f"90th percentile at {count} Euler steps, anisotropic"
        yield Case(INSTEAD, FALLS, case, *_percentile(errors), REPORTED, "at least", interval_from=RANKS)


def _percentile(values: Tensor) -> tuple[float, float, float]:
    """Return a percentile of independent values with its 95 % interval, from the binomial law of their ranks."""
    half = 1.96 * (PERCENTILE * (1 - PERCENTILE) / len(values)) ** 0.5
    value, low, high = (float(values.quantile(min(PERCENTILE + step, 1.0))) for step in (0.0, -half, half))
    return value, low, high
