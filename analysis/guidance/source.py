r"""State optimisation: the noise is moved until the sample at the end of its solve has a low loss.

D-Flow (arXiv 2402.14017) differentiates the loss of the solved sample in x_0 and passes the gradient to an optimiser;
here the gradient is any registered estimator's, so that its cost can be traded against its error.

No code of the authors was found. The sampler was compared with D-Flow in the code of PnP-Flow (arXiv 2410.02423,
github.com/annegnx/PnP-Flow), which differs: its L-BFGS has a line search (strong Wolfe conditions, 100 pairs) over the
sum of the batch, where ``optimisers.BatchedLBFGS`` has a fixed rate and 10 pairs per sample; it adds to the squared
residual a multiple of :math:`(d - 1) \log|x_0| - |x_0|^2 / 2`, with this sign, where the prior here is that of the
noise, :math:`|x_0|^2 / 2`; and it starts from :math:`A^T y` solved back to time 0 and blended with noise, where a warm
start here is a state at a later time, to which noise is solved first.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from analysis import checks, solvers
from analysis.flow import Flow
from analysis.gradients.registry import with_value
from analysis.guidance.dial import Choice, rule_of
from analysis.guidance.optimisers import optimiser as make
from analysis.guidance.registry import DivergenceMonitor, register
from analysis.losses import Loss
from analysis.paths import expand
from analysis.solvers.grids import time_grid

ENDS = ("solve", "own")


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
    warm: int = 0,
    prior: float = 0.0,
    stop: float = -math.inf,
    end: str = "solve",
    steps: int = 32,
    solver: str = "ddim",
    grid: str | Tensor = "t",
) -> Tensor:
    """Optimise the state at time t and go from there to time 1.

    Parameters
    ----------
    iterations, optimiser, learning_rate : of the optimisation: "sgd" and "adam" are those of ``torch.optim``, "lbfgs"
        is ``optimisers.BatchedLBFGS``; the samples of a batch do not influence each other
    gradient : the estimator: a name in ``LADDER`` or ``ESTIMATORS``, or (name, options)
    t : the time of the optimised state and of its gradients, in [0, 1); greedy's gradient is 0 where alpha is
    warm : solver steps of the unguided solve from x0 (B, *event), noise at time 0, to the state at t; with 0, x0 is
        that state
    prior : weight of |x|^2 / 2 beside the loss, at least 0; 1 is the density of noise where the loss is -log p(y | x)
    stop : a sample with at most this loss, as its gradient's estimator sees it, is not moved any further
    end : "solve" for a solve from the optimised state, whatever the estimator; "own" for the estimator's endpoint
    steps, solver, grid : the solves

    Returns
    -------
    Tensor
        Samples (B, *event); a call returns a ``Sample``.

    Raises
    ------
    ValueError
        For an option with a value that is not allowed; the message names it and lists what is.
    """
    iterations = checks.steps(iterations, "iterations")
    checks.known("solver", solver, solvers.SOLVERS)
    checks.known("end", end, ENDS)
    prior, stop = checks.at_least("prior", prior), checks.number("stop", stop)
    rule, options = rule_of(gradient, "gradient")
    start = checks.time(t, (), name="t")
    if float(start) == 1:
        raise ValueError(f"t must lie before 1, got {t}")
    if warm and float(start) == 0:
        raise ValueError("warm needs a time t after 0: noise at time 0 is not solved to time 0")
    x = _solved(flow, x0, grid, torch.zeros_like(start), start, checks.steps(warm, "warm"), solver) if warm else x0
    update = make(optimiser, x, learning_rate)
    for i in range(iterations):
        g, _, value = with_value(rule(flow, loss, x, start, **options), loss)
        moved = torch.where(expand(value > stop, x).bool(), update(x, g + prior * x), x)
        x = monitor.accept(moved, x, i)
    if end == "own":
        last = rule(flow, loss, x, start, **options)[1]
    else:
        last = _solved(flow, x, grid, start, torch.ones_like(start), checks.steps(steps), solver)
    return monitor.accept_final(last, x, iterations)


def _solved(flow: Flow, x: Tensor, grid: str | Tensor, start: Tensor, end: Tensor, steps: int, solver: str) -> Tensor:
    return solvers.solve(flow, x, solvers.plan(solver, flow.path, time_grid(grid, flow.path, start, end, steps)))
