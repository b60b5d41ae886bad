r"""Gradients in a control signal: :math:`\dot x = u(x, s) + z(s)` on [t, 1].

To first order a control changes the loss of the endpoint by :math:`\int_t^1 \langle a_x(s), \delta z(s)\rangle\, ds`,
with :math:`a_x` the adjoint of the state: :math:`a_x(s)` is the functional derivative at s, and
:math:`\int_t^1 a_x(s)\, ds` the gradient in a constant control (T5 of arXiv 2502.08006). ``control_gradients`` returns
the gradients in controls that are constant on equal intervals; ``analysis.gradients.control_adjoint`` computes them.

As an estimator, ``control_average`` is the gradient in a constant control at z = 0 over the length of [t, 1]: the mean
of the ideal gradients at all later states. It is the direction that lowers the loss fastest if all of the remaining
solve is pushed equally, and not only x at t. It therefore differs from the ideal gradient at t, with any number of
steps, by as much as the adjoint changes after t.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from analysis import checks
from analysis.cost import metered
from analysis.flow import Flow
from analysis.gradients._adjoint import VARIANTS, time_grid
from analysis.gradients.control_adjoint import along_stretches, discrete_adjoint
from analysis.gradients.registry import Estimate, register
from analysis.losses import Loss
from analysis.paths import expand


def control_gradients(
    flow: Flow,
    loss: Loss,
    x: Tensor,
    t: Tensor | float,
    controls: Tensor,
    *,
    steps: int,
    solver: str = "euler",
    tolerance: float = 0.0,
) -> Estimate:
    """Differentiate the loss of the endpoint in controls that are constant on n equal intervals of [t, 1].

    The gradient, (n, B, *event), divided by an interval's length, (1 - t)/n, tends to the adjoint of the state there.

    Parameters
    ----------
    x, t : states (B, *event) and times, a float or (B,)
    controls : (n, B, *event), the addition to the velocity on each interval, in units of x per unit of time
    steps : solver steps per interval
    solver : a Runge-Kutta method in t: euler, midpoint, heun or rk4
    tolerance : 0 for the exact gradient of the discrete map; more saves Jacobian products on stretches that are
        straight to it, at the price of a second evaluation of the flow at the end of each; the cost counts both

    Returns
    -------
    Estimate
        Its ``gradient`` is (n, B, *event).

    Raises
    ------
    TypeError
        For arguments of another kind.
    ValueError
        For controls that are not finite or not n of the shape and dtype of x; steps below 1; a solver that is not in t;
        a tolerance below 0 or not finite; and x, t and losses that estimators refuse.
    """
    x, t = checks.arguments(flow, loss, x, t)
    controls, tolerance = check_controls(controls, x), checks.at_least("tolerance", tolerance)
    grid = time_grid(t, len(controls) * checks.steps(steps), solver)
    with metered(flow, x) as (counted, cost):
        arguments = counted, loss, x, grid, controls, solver
        result = along_stretches(*arguments, tolerance) if tolerance else discrete_adjoint(*arguments)
    if not bool(torch.isfinite(result.gradient).all()):
        warnings.warn("control_gradients: some gradients are not finite", RuntimeWarning, stacklevel=2)
    return Estimate(*result[:3], cost)


def check_controls(controls: Tensor, x: Tensor) -> Tensor:
    """Return controls (n, B, *event), finite, of the dtype of x, without a graph; ``ValueError`` for others."""
    controls = checks.state(controls, None, "controls").detach()
    if not len(controls) or controls.shape[1:] != x.shape or controls.dtype != x.dtype:
        raise ValueError(
            f"controls must be n >= 1 tensors like x, {tuple(x.shape)} {x.dtype}; "
            f"got {tuple(controls.shape)} {controls.dtype}"
        )
    return controls


@register("control_average", VARIANTS)
def control_average(
    flow: Flow, loss: Loss, x: Tensor, t: Tensor, *, steps: int, solver: str = "euler"
) -> tuple[Tensor, Tensor, Tensor]:
    """Average the adjoint over [t, 1]: the exact gradient of the discrete map in a constant control, over 1 - t.

    At t = 1 no time is left, and the average is the gradient of the loss at x.

    Returns
    -------
    tuple
        Gradient and endpoint (B, *event), and the loss there (B,).
    """
    grid = time_grid(t, steps, solver)
    result = discrete_adjoint(flow, loss, x, grid, torch.zeros_like(x)[None], solver)
    length = expand(1 - t, x)
    return torch.where(length > 0, result.gradient[0] / length, result.loss_gradient), result.endpoint, result.value
