r"""T3 and C4.1: where a sequence guided to a prediction ends, and how that falls with the step.

The sequence is guidance itself: :math:`x^{(n+1)} = x^{(n)} - \alpha_t^2 g(x^{(n)})` at a fixed t with a registered
estimator's gradient of :math:`|\cdot - x_1^*|^2/2`, which contracts at the rate :math:`\zeta^2/\lambda` for small zeta.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import product

import torch
from torch import Tensor

from analysis.claims import PRINTED, READING, Case, claim
from analysis.gradients import ESTIMATORS
from analysis.losses import Linear
from analysis.paths import AffinePath, expand
from analysis.reference import EPS, ideal_gradient
from analysis.solvers import SOLVERS
from toy_models.claims import common
from toy_models.claims.common import Draw

ITERATIONS = 60
# The errors of higher orders are at round-off soon: their windows lie at larger zeta, and are shorter.
POWERS = torch.arange(4, dtype=torch.float64)
ZETAS = {1: 0.02 / 2.0**POWERS, 2: 0.08 / 2.0**POWERS, 3: 0.08 / 1.4**POWERS, 4: 0.08 / 1.4**POWERS}
SMOOTH = "product256"  # exact, and wide in every direction against the largest zeta
DEGENERATE = "h = gamma_1 - gamma_t as printed, which is infinite where sigma_1 = 0"
OWN_STEP = "h is the step in the solver's own coordinate: 1 - t for steps in t, zeta_t for steps in zeta"
Steps = Callable[[AffinePath, Tensor], Tensor]
STEP_SIZES: dict[str, Steps] = {"h = zeta_t": lambda path, t: path.zeta(t), "h = 1 - t": lambda path, t: 1 - t}


def guided(problem: str, path: str, times: Tensor, n: int, seed: int, name: str, **options: object) -> Draw:
    """Return the states (T n, d) that an estimator's guidance arrives at from the mean path."""
    drawn = common.states(problem, path, times, n, seed)
    alpha = expand(drawn.flow.path.alpha(drawn.t), drawn.x)
    x = alpha * drawn.loss.target
    for _ in range(ITERATIONS):
        x = x - alpha**2 * ESTIMATORS[name](drawn.flow, drawn.loss, x, drawn.t, **options).gradient
    return Draw(drawn.flow, drawn.loss, x, drawn.t)


def arrived(kind: str, reading: str, case: str, drawn: Draw, name: str, **options: object) -> Case:
    """Return the premise: what the estimator predicts for the last state is x_1*, to round-off."""
    endpoint = ESTIMATORS[name](drawn.flow, drawn.loss, drawn.x, drawn.t, **options).endpoint
    conditions = 1 / drawn.flow.path.alpha(drawn.t) + drawn.flow.path.zeta(drawn.t)
    return common.equal(kind, reading, f"premise, {case}", endpoint, drawn.loss.target, common.round_off(conditions))


def missed(drawn: Draw) -> tuple[Tensor, float]:
    """Return |Phi(x) - x_1*|, (B,), and the floor below which it says nothing."""
    # The gradient of this loss does not vanish where the sample has arrived, so that its error bound means something.
    loss = Linear(torch.ones(drawn.x.shape[1]))
    truth = ideal_gradient(drawn.flow, loss, drawn.x, drawn.t, max_error=math.inf)
    floor = 10 * float((truth.error_bound * drawn.loss.target.norm(dim=1)).max())
    return (truth.endpoint - drawn.loss.target).norm(dim=1), floor


def printed_step(path: str) -> Case:
    """Return the case that the step printed has a size: its reciprocal is above round-off."""
    schedule = common.path_named(path)
    h = schedule.gamma(1.0) - schedule.gamma(0.5)
    return common.certain(PRINTED, DEGENERATE, f"1/h, {path}", float(1 / h), EPS, "at least")


@claim(
    "T3",
    "If x1hat(x^(n)) -> x_1*, then |Phi(x^(n)) - x_1*| = O(h^2).",
    "arXiv 2502.08006 (T3)",
)
def greedy_end(quick: bool, seed: int) -> Iterator[Case]:
    """Guide by greedy until the prediction is the target, and fit how far the sample then is from it."""
    paths = ("condot", "vp_linear") if quick else ("condot", "cosine", "vp_linear", "ve", "polynomial")
    for path, problem in product(paths, ("gaussian",) if quick else ("gaussian", "overlapping")):
        schedule = common.path_named(path)
        times = schedule.time_from_zeta(ZETAS[1])
        drawn, case = guided(problem, path, times, 4, seed, "greedy"), f"{problem}, {path}"
        error, floor = missed(drawn)
        for reading, step in STEP_SIZES.items():
            h = step(schedule, times)
            yield arrived(READING, reading, case, drawn, "greedy")
            yield common.order(READING, reading, case, h, common.by_time(error, len(times)), 2.0, floor=floor)
    yield printed_step(paths[0])


@claim(
    "C4.1",
    "If one step of an order-p solver from x^(n) tends to x_1*, then |Phi(x^(n)) - x_1*| = O(h^(p+1)).",
    "arXiv 2502.08006 (C4.1)",
)
def solver_end(quick: bool, seed: int) -> Iterator[Case]:
    """Guide by the gradient through a single step, in t and in zeta, and fit the distance of the sample."""
    solvers = ("euler", "midpoint") if quick else ("euler", "midpoint", "heun", "ralston", "rk3", "rk4")
    paths = ("condot", "vp_linear") if quick else ("condot", "cosine", "vp_linear")
    for path, solver in product(paths, solvers):
        yield from _solver_cases(path, solver, "h = 1 - t", seed)
        yield from _solver_cases(path, f"{solver}_zeta", "h = zeta_t", seed)
    yield printed_step(paths[0])


def _solver_cases(path: str, solver: str, size: str, seed: int) -> Iterator[Case]:
    schedule, order = common.path_named(path), SOLVERS[solver].order
    times = schedule.time_from_zeta(ZETAS[order])
    drawn = guided(SMOOTH, path, times, 4, seed, "end_to_end", steps=1, solver=solver)
    reading, case = OWN_STEP, f"{solver}, {path}"
    yield arrived(READING, reading, case, drawn, "end_to_end", steps=1, solver=solver)
    error, floor = missed(drawn)
    h, error = STEP_SIZES[size](schedule, times), common.by_time(error, len(times))
    yield common.order(READING, reading, case, h, error, order + 1.0, floor=floor)
