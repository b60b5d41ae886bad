r"""Control-signal optimisation: a control z(t) is added to the velocity, and optimised on a grid.

.. math:: \dot x = u(x, t) + z(t), \qquad \min_z\; L(x_1) + \tfrac{w}{2} \int_0^1 |z|^2 dt .

FlowGrad (Liu et al., CVPR 2023) has w = 0; OC-Flow (arXiv 2410.18070) penalises the control. The gradient of the
discrete objective is the exact adjoint of the discrete trajectory (``analysis.gradients.control_adjoint``), divided by
the length of an interval: the functional derivative :math:`a_x(t) + w z(t)`, so that a learning rate means the same on
every grid.

With another estimator as ``gradient``, :math:`a_x` at the end of an interval is that estimator's gradient at the state
there, as if no control followed; at time 1 it is the gradient of the loss (arXiv 2502.08006, section 4).

Both were compared with their authors' code. FlowGrad's (github.com/gnobitab/FlowGrad) adds the control itself, not
times the step, evaluates the velocity at the state with it, and takes SGD; its criterion of straightness is the same,
but over the batch. OC-Flow's (github.com/WangLuran/Guided-Flow-Matching-with-Optimal-Control) has FlowGrad's solve of
images without joined steps and the update :math:`z \leftarrow \beta z - \eta a_x`, which is SGD here with
:math:`\beta = 1 - \eta w`. OC-Flow in the code of PnP-Flow (github.com/annegnx/PnP-Flow) starts from random controls,
has one more that moves x_0, and clips gradients; none of this is done here.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from analysis import checks, solvers
from analysis.flow import Flow
from analysis.gradients._adjoint import time_grid
from analysis.gradients.control_adjoint import Controlled, along_stretches, discrete_adjoint, pair
from analysis.guidance.dial import Choice, rule_of
from analysis.guidance.optimisers import optimiser as make
from analysis.guidance.registry import DivergenceMonitor, register
from analysis.guidance.windows import WHOLE, Window, inside
from analysis.losses import Loss, value_and_gradient

ADJOINT = "adjoint"


def controlled_states(
    flow: Flow, x: Tensor, grid: Tensor, controls: Tensor, solver: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the time () and the state (B, *event) at the end of each of n equal intervals of ``grid``.

    Parameters
    ----------
    x : (B, *event), the state at the start
    controls : (n, B, *event)

    Yields
    ------
    tuple
        Time and state.
    """
    steps = (len(grid) - 1) // len(controls)
    for k, control in enumerate(controls):
        part = grid[k * steps : (k + 1) * steps + 1]
        x = solvers.solve(Controlled(flow), pair(x, control), solvers.plan(solver, flow.path, part))[:, 0]
        yield part[-1], x


def estimated_gradients(
    flow: Flow, loss: Loss, x: Tensor, grid: Tensor, controls: Tensor, solver: str, gradient: Choice
) -> Tensor:
    """Return an estimator's gradients (n, B, *event) at the ends of n equal intervals, over n."""
    rule, options = rule_of(gradient, "gradient")
    *states, (_, end) = controlled_states(flow, x, grid, controls, solver)
    estimates = [rule(flow, loss, state, t, **options)[0] for t, state in states]
    return torch.stack([*estimates, value_and_gradient(loss, end)[1]]) / len(controls)


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
    window: Window = WHOLE,
) -> Tensor:
    """Optimise controls on ``intervals`` equal intervals of [0, 1], from zero, and solve from x0 (B, *event).

    Parameters
    ----------
    iterations, optimiser, learning_rate : as in ``optimise_source``
    intervals, steps, solver : number of controls, solver steps for each of them, and a Runge-Kutta method in t
    weight : w, the price of the control, at least 0; 0 is FlowGrad, more is OC-Flow
    tolerance : FlowGrad's straightness below which steps share one product, as in ``control_gradients``
    window : times (start, end): intervals that begin in [start, end) have controls, the others none
    gradient : "adjoint", the exact gradient of the discrete objective; or an estimator: a name in ``LADDER`` or
        ``ESTIMATORS``, or (name, options)

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
    steps = checks.steps(steps)
    grid = time_grid(torch.zeros((), dtype=torch.float64), cells * steps, solver)
    z = x0.new_zeros((cells, *x0.shape))
    rows = z.movedim(1, 0)  # optimisers see the controls of one sample as one event
    update = make(optimiser, rows, learning_rate)
    controlled = x0.new_tensor(inside(grid[:-1:steps], window)).reshape(-1, *[1] * x0.ndim)
    for i in range(iterations):
        arguments = flow, loss, x0, grid, z, solver
        if gradient != ADJOINT:
            g = estimated_gradients(*arguments, gradient)
        else:
            g = (along_stretches(*arguments, tolerance) if tolerance else discrete_adjoint(*arguments))[0]
        moved = update(rows, (controlled * (cells * g + weight * z)).movedim(1, 0))
        rows = monitor.accept(moved, rows, i)
        z = rows.movedim(0, 1)
    *_, (_, end) = controlled_states(flow, x0, grid, z, solver)
    return monitor.accept_final(end, x0, iterations)
