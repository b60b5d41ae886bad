"""State optimisation: the noise itself is moved until the sample that it turns into has a low loss.

D-Flow (arXiv 2402.14017) differentiates the loss of the solved sample in x_0 and hands the gradient to an optimiser;
here the gradient is any registered estimator's, so that its cost can be traded against its error. The code of PnP-Flow
(arXiv 2410.02423) also starts D-Flow from the inverted measurement and adds a prior term for x_0; neither is done here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from analysis import checks, solvers
from analysis.flow import Flow
from analysis.guidance.dial import Choice, rule_of
from analysis.guidance.optimisers import optimiser as make
from analysis.guidance.registry import DivergenceMonitor, register
from analysis.losses import Loss
from analysis.solvers.grids import time_grid


@register("optimise_source")
def optimise_source(
    flow: Flow,
    loss: Loss,
    x0: Tensor,
    monitor: DivergenceMonitor,
    *,
    iterations: int,
    learning_rate: float,
    optimiser: str = "lbfgs",
    gradient: Choice = "end_to_end",
    t: float = 0.0,
    steps: int = 32,
    solver: str = "ddim",
    grid: str | Tensor = "t",
) -> Tensor:
    """Optimise the state at time t and solve from there to time 1.

    Parameters
    ----------
    iterations, optimiser, learning_rate : how it is optimised: "sgd" and "adam" are those of ``torch.optim``, "lbfgs"
        is ``optimisers.BatchedLBFGS``; the samples of a batch do not influence each other
    gradient : the estimator: a name in ``LADDER`` or ``ESTIMATORS``, or (name, options)
    t : where x0 (B, *event) lives and gradients are taken, in [0, 1); greedy's is 0 where alpha is
    steps, solver, grid : the final solve

    Raises
    ------
    ValueError
        For an option with a value that is not allowed; the message names it and lists what is.
    """
    iterations = checks.steps(iterations, "iterations")
    checks.known("solver", solver, solvers.SOLVERS)
    rule, options = rule_of(gradient, "gradient")
    start = checks.time(t, (), name="t")
    if float(start) == 1:
        raise ValueError(f"t must lie before 1, got {t}")
    times = time_grid(grid, flow.path, start, torch.ones_like(start), checks.steps(steps))
    stages, update, x = solvers.plan(solver, flow.path, times), make(optimiser, x0, learning_rate), x0
    for i in range(iterations):
        gradient_at_x = rule(flow, loss, x, start, **options)[0]
        x = monitor.accept(update(x, gradient_at_x), x, i)
    return monitor.accept_final(solvers.solve(flow, x, stages), x, iterations)
