r"""Two backward passes of a controlled solve: its exact discrete adjoint, and one step per straight stretch.

Both rest on one observation: a control that is constant on an interval is a part of the state that does not change,

.. math:: \frac{d}{ds}(x, z) = (u(x, s) + z,\, 0), \qquad \dot a_x = -Du^T a_x, \quad \dot a_z = -a_x,

so the discrete adjoint of a solve of (x, z) is the gradient in both.

**Straight stretches** (FlowGrad: Liu et al., CVPR 2023). For each sample, consecutive steps are joined into one step of
the same solver over the whole stretch, from the stored state at its start and under the mean of its controls: one set
of Jacobian products in place of one per step. The gradient in the mean is shared equally by the steps. The criterion is
FlowGrad's: with :math:`v_i` the mean velocity of step i without its control,

.. math:: d_i = \max(|v_{i-1} - v_i|^2, |v_{i+1} - v_i|^2)/|v_i|^2,

and a stretch ends with the step at which the sum of its :math:`d_i` reaches the tolerance. FlowGrad's code sums over a
batch; here each sample has its own stretches, so that its gradient does not depend on the rest of the batch. There a
stretch has the control of its first step, here the mean of its controls; and in the first step, index -1 makes the
velocity before it that of the last step, where here only the next one is compared.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from analysis import solvers
from analysis.flow import Flow, Pullback
from analysis.losses import Loss, value_and_gradient
from analysis.norms import scaled
from analysis.paths import Readout, expand


def pair(first: Tensor, second: Tensor | None = None) -> Tensor:
    """Return (B, 2, *event) from two tensors (B, *event); the second is zero unless given."""
    return torch.stack([first, torch.zeros_like(first) if second is None else second], 1)


class Controlled(Flow):
    """The flow of states (x, z), (B, 2, *event), whose velocity is (u(x, s) + z, 0); for solvers in t alone."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self.path = flow, flow.path

    def select_rows(self, rows: Tensor) -> Flow:
        """Return the controlled flow of the samples with indices ``rows`` (C,)."""
        return Controlled(self.flow.select_rows(rows))

    def predict(self, x: Tensor, t: Tensor, readout: Readout) -> Tensor:
        """Return (u + z, 0), of shape (B, 2, *event)."""
        return pair(self.flow.predict(x[:, 0], t, readout) + x[:, 1])

    def predict_vjp(self, x: Tensor, t: Tensor, readout: Readout) -> tuple[Tensor, Pullback]:
        """Return (u + z, 0) and its pullback (v, w) -> (Du^T v, v)."""
        velocity, pull = self.flow.predict_vjp(x[:, 0], t, readout)
        return pair(velocity + x[:, 1]), lambda v: pair(pull(v[:, 0]), v[:, 0])


class ControlGradients(NamedTuple):
    """Gradients in n controls (n, B, *event), the endpoint, and the loss and its gradient there."""

    gradient: Tensor
    endpoint: Tensor
    value: Tensor
    loss_gradient: Tensor


def discrete_adjoint(
    flow: Flow, loss: Loss, x: Tensor, grid: Tensor, controls: Tensor, solver: str
) -> ControlGradients:
    """Return the exact gradients of a solve on a grid of n equal intervals."""
    steps, pulls = (len(grid) - 1) // len(controls), []
    for k, control in enumerate(controls):
        plan = solvers.plan(solver, flow.path, grid[k * steps : (k + 1) * steps + 1])
        end, pull = solvers.solve_vjp(Controlled(flow), pair(x, control), plan)
        x = end[:, 0]
        pulls.append(pull)
    value, loss_gradient = value_and_gradient(loss, x)
    a, gradients = loss_gradient, []
    for pull in reversed(pulls):
        a, gradient = pull(pair(a)).unbind(1)
        gradients.append(gradient)
    return ControlGradients(torch.stack(gradients[::-1]), x, value, loss_gradient)


def stretches(velocities: Tensor, tolerance: float) -> Tensor:
    """Return the first step of the stretch that each step belongs to, (N, B), from their velocities (N, B, d)."""
    # Only ratios count: each sample's velocities are scaled so that no square overflows.
    rows, _ = scaled(velocities.movedim(1, 0))
    velocities = rows.unflatten(1, (len(velocities), -1)).movedim(1, 0)
    turns = torch.nn.functional.pad(velocities.diff(dim=0).square().sum(-1), (0, 0, 1, 1))
    bends = torch.maximum(turns[:-1], turns[1:]) / velocities.square().sum(-1)
    first, bend = torch.zeros_like(bends, dtype=torch.long), torch.full_like(bends[0], tolerance)
    for i in range(len(bends)):
        follows = bend < tolerance  # false for NaN, where a sample is at its end already
        first[i] = torch.where(follows, first[i - 1], i)
        bend = torch.where(follows, bend, 0.0) + bends[i]
    return first


def along_stretches(
    flow: Flow, loss: Loss, x: Tensor, grid: Tensor, controls: Tensor, solver: str, tolerance: float
) -> ControlGradients:
    """Return the gradients of ``discrete_adjoint``, with one step back per stretch that is straight to a tolerance."""
    steps, plan = (len(grid) - 1) // len(controls), solvers.plan(solver, flow.path, grid)
    z, states = controls.repeat_interleave(steps, 0), [x]
    for i in range(len(z)):
        states.append(solvers.step(Controlled(flow), pair(states[i], z[i]), plan[i])[:, 0])
    velocities = torch.stack(states).diff(dim=0) / expand(grid.diff(dim=0), z) - z
    times = grid.reshape(len(grid), -1).to(x.device).expand(-1, len(x))
    first = stretches(velocities.flatten(2), tolerance)
    value, loss_gradient = value_and_gradient(loss, states[-1])
    a, shares = loss_gradient.clone(), torch.zeros_like(z)
    total, length = torch.zeros_like(x), torch.zeros_like(first[0])
    for i in reversed(range(len(z))):
        total, length = total + z[i], length + 1
        rows = (first[i] == i).nonzero()[:, 0]
        if len(rows):
            state = pair(states[i][rows], total[rows] / expand(length[rows], x))
            plan = solvers.plan(solver, flow.path, torch.stack([times[i, rows], times[i + length[rows], rows]]))
            here = Controlled(flow).select_rows(rows)
            a[rows], share = solvers.step_vjp(here, state, plan[0])[1](pair(a[rows])).unbind(1)
            shares[i, rows] = share / expand(length[rows], x)
            total[rows], length[rows] = 0.0, 0
    gradients = shares[first, torch.arange(len(x), device=x.device)]
    gradient = gradients.unflatten(0, (len(controls), steps)).sum(1)
    return ControlGradients(gradient, states[-1], value, loss_gradient)
