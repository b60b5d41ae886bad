r"""Control-signal optimisation: a push z(t) is added to the velocity, and optimised on a grid.

.. math:: \dot x = u(x, t) + z(t), \qquad \min_z\; L(x_1) + \tfrac{w}{2} \int_0^1 |z|^2 dt .

FlowGrad (Liu et al., CVPR 2023) has w = 0; OC-Flow (arXiv 2410.18070) prices the control. The gradient of the discrete
objective is the exact adjoint of the discrete trajectory (``analysis.gradients.control_adjoint``), divided by the
length of an interval: the functional derivative :math:`a_x(t) + w z(t)`, so that a learning rate means the same on
every grid.

Beside published code: FlowGrad's adds the control itself, not times the step, and evaluates the velocity at the state
with it; its criterion of straightness is the same. OC-Flow's also moves x_0 by a control and clips gradients;
neither is done here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from analysis import checks, solvers
from analysis.flow import Flow
from analysis.gradients._adjoint import time_grid
from analysis.gradients.control_adjoint import Controlled, along_stretches, discrete_adjoint, pair
from analysis.guidance.optimisers import optimiser as make
from analysis.guidance.registry import DivergenceMonitor, register
from analysis.losses import Loss


def controlled_end(flow: Flow, x: Tensor, grid: Tensor, controls: Tensor, solver: str) -> Tensor:
    """Return where the solve on ``grid`` ends under controls (n, B, *event), constant on n equal intervals."""
    steps = (len(grid) - 1) // len(controls)
    for k, control in enumerate(controls):
        stages = solvers.plan(solver, flow.path, grid[k * steps : (k + 1) * steps + 1])
        x = solvers.solve(Controlled(flow), pair(x, control), stages)[:, 0]
    return x


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
) -> Tensor:
    """Optimise controls on ``intervals`` equal intervals of [0, 1], from zero, and solve from x0 (B, *event).

    Parameters
    ----------
    iterations, optimiser, learning_rate : as ``optimise_source`` has them
    intervals, steps, solver : controls, solver steps for each of them, and a Runge-Kutta method in t
    weight : w, the price of the control, at least 0; 0 is FlowGrad, more is OC-Flow
    tolerance : FlowGrad's straightness below which steps share one product, as ``control_gradients`` has it

    Raises
    ------
    ValueError
        For a weight, tolerance, count, solver or learning rate that is not allowed; the message names it.
    """
    weight, tolerance = checks.at_least("weight", weight), checks.at_least("tolerance", tolerance)
    iterations, cells = checks.steps(iterations, "iterations"), checks.steps(intervals, "intervals")
    grid = time_grid(torch.zeros((), dtype=torch.float64), cells * checks.steps(steps), solver)
    z = x0.new_zeros((cells, *x0.shape))
    rows = z.movedim(1, 0)  # optimisers see the controls of one sample as one event
    update = make(optimiser, rows, learning_rate)
    for i in range(iterations):
        arguments = flow, loss, x0, grid, z, solver
        g = (along_stretches(*arguments, tolerance) if tolerance else discrete_adjoint(*arguments))[0]
        moved = update(rows, (cells * g + weight * z).movedim(1, 0))
        rows = monitor.accept(moved, rows, i)
        z = rows.movedim(0, 1)
    return monitor.accept_final(controlled_end(flow, x0, grid, z, solver), x0, iterations)
