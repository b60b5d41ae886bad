r"""Control-signal optimisation: a control z(t) is added to the velocity, and optimised on a grid.

.. math:: \dot x = u(x, t) + z(t), \qquad \min_z\; L(x_1) + \tfrac{w}{2} \int_0^1 |z|^2 dt .

FlowGrad (Liu et al., CVPR 2023) has w = 0; OC-Flow (arXiv 2410.18070) penalises the control. The gradient of the
discrete objective is the exact adjoint of the discrete trajectory (``analysis.gradients.control_adjoint``), divided by
the length of an interval: the functional derivative :math:`a_x(t) + w z(t)`, so that a learning rate means the same on
every grid.

Differences to published code: FlowGrad's adds the control itself, not times the step, and evaluates the velocity at the
state with it; its criterion of straightness is the same. OC-Flow's also moves x_0 by a control and clips gradients;
neither is done here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from analysis import checks, solvers
from analysis.flow import Flow
from analysis.gradients._adjoint import time_grid
from analysis.gradients.control_adjoint import Controlled, along_stretches, discrete_adjoint, pair
from analysis.guidance.dial import Choice, rule_of
from analysis.guidance.optimisers import optimiser as make
from analysis.guidance.registry import DivergenceMonitor, register
from analysis.losses import Loss, value_and_gradient

ADJOINT = "adjoint"


def controlled_end(flow: Flow, x: Tensor, grid: Tensor, controls: Tensor, solver: str) -> Tensor:
    """Return the end (B, *event) of the solve on ``grid`` under controls (n, B, *event) on n equal intervals."""
    steps = (len(grid) - 1) // len(controls)
    for k, control in enumerate(controls):
        stages = solvers.plan(solver, flow.path, grid[k * steps : (k + 1) * steps + 1])
        x = solvers.solve(Controlled(flow), pair(x, control), stages)[:, 0]
    return x


def estimated_gradients(
    flow: Flow, loss: Loss, x: Tensor, grid: Tensor, controls: Tensor, solver: str, gradient: Choice
) -> Tensor:
    """Return an estimator's gradients (n, B, *event) at the ends of n equal intervals, over n."""
    rule, options = rule_of(gradient, "gradient")
    steps, estimates = (len(grid) - 1) // len(controls), []
    for k, control in enumerate(controls):
        part = grid[k * steps : (k + 1) * steps + 1]
        x = solvers.solve(Controlled(flow), pair(x, control), solvers.plan(solver, flow.path, part))[:, 0]
        last = k == len(controls) - 1
        estimates.append(value_and_gradient(loss, x)[1] if last else rule(flow, loss, x, part[-1], **options)[0])
    return torch.stack(estimates) / len(controls)


@register("optimise_controls")
def optimise_controls(
    flow: Flow,
    loss: Loss,
    x0: Tensor,
    monitor: DivergenceMonitor,
    *,
    iterations: int,
    learning_rate: float,
    intervals: int = 8,
    steps: int = 4,
    solver: str = "euler",
    optimiser: str = "sgd",
    weight: float = 0.0,
    tolerance: float = 0.0,
    gradient: Choice = ADJOINT,
) -> Tensor:
    """Optimise controls on ``intervals`` equal intervals of [0, 1], from zero, and solve from x0 (B, *event).

    Parameters
    ----------
    iterations, optimiser, learning_rate : as in ``optimise_source``
    intervals, steps, solver : number of controls, solver steps for each of them, and a Runge-Kutta method in t
    weight : w, the price of the control, at least 0; 0 is FlowGrad, more is OC-Flow
    tolerance : FlowGrad's straightness below which steps share one product, as in ``control_gradients``

    Returns
    -------
    Tensor
        Samples (B, *event); a call returns a ``Sample``.

    Raises
    ------
    ValueError
        For a weight, tolerance, count, solver or learning rate that is not allowed; the message names it.
    """
    weight, tolerance = checks.at_least("weight", weight), checks.at_least("tolerance", tolerance)
    if tolerance and gradient != ADJOINT:
        raise ValueError(f"tolerance shortens the adjoint and goes with gradient={ADJOINT!r}, got {gradient!r}")
    iterations, cells = checks.steps(iterations, "iterations"), checks.steps(intervals, "intervals")
    grid = time_grid(torch.zeros((), dtype=torch.float64), cells * checks.steps(steps), solver)
    z = x0.new_zeros((cells, *x0.shape))
    rows = z.movedim(1, 0)  # optimisers see the controls of one sample as one event
    update = make(optimiser, rows, learning_rate)
    for i in range(iterations):
        arguments = flow, loss, x0, grid, z, solver
        if gradient != ADJOINT:
            g = estimated_gradients(*arguments, gradient)
        else:
            g = (along_stretches(*arguments, tolerance) if tolerance else discrete_adjoint(*arguments))[0]
        moved = update(rows, (cells * g + weight * z).movedim(1, 0))
        rows = monitor.accept(moved, rows, i)
        z = rows.movedim(0, 1)
    return monitor.accept_final(controlled_end(flow, x0, grid, z, solver), x0, iterations)
