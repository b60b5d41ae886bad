r"""Optimise, then discretise: the continuous adjoint solved numerically, back from s = 1 to t.

The ideal gradient is the value at t of the solution of the adjoint equation (Pontryagin et al. 1962; for training and
guiding ODE models: Chen et al. 2018, arXiv 1806.07366)

.. math:: \dot a(s) = -Du(x_s, s)^T a(s), \quad a(1) = \nabla L(x_1), \qquad \dot x_s = u(x_s, s).

Every estimator here solves x forward on a uniform grid from t to 1 with an explicit Runge-Kutta method in t, and then a
with the same method on the same grid from its other end. They differ in the state at which a stage of the backward
solve takes its Jacobian:

- **backsolve** integrates (x, a) jointly from :math:`x_1`: one state of memory, but the backward solve's states are
  not those of the forward solve. Where the flow contracts, its reversal expands: a perturbation made at time r arrives
  at s < r multiplied by the inverse of :math:`D\Phi_{s,r}`, and each step makes one of :math:`O(h^{p+1})`.
- **cached** takes the forward solve's own states: at the ends of steps exactly; in between, where midpoint and RK4
  have stages, the states that the forward step itself evaluated at that time, in reverse order. They lie
  :math:`O(h^2)` off the trajectory (those of RK4 on either side of it), which costs no order at p = 2 and one at p = 4.
- **interpolated** takes the cubic Hermite interpolant of states and velocities at the ends of steps (Hairer, Norsett &
  Wanner, *Solving ODEs I*, section II.6), :math:`O(h^4)` off: with :math:`\theta = (s - t_i)/h`,

  .. math:: x(s) = (1-\theta)^2 (1 + 2\theta)\, x_i + \theta^2 (3 - 2\theta)\, x_{i+1}
              + h\, \theta (1-\theta) \left[(1-\theta)\, u_i - \theta\, u_{i+1}\right].

All converge to the ideal gradient at the order of the method, except cached RK4, whose order is 3. None is the gradient
of the discrete map: for Euler that gradient is :math:`a_i = a_{i+1} + h\, Du(x_i, t_i)^T a_{i+1}`, with the Jacobian at
the *new* state, whereas an explicit step backward has it at the old one, :math:`(x_{i+1}, t_{i+1})`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from analysis import checks, solvers
from analysis.flow import Flow
from analysis.gradients.registry import register
from analysis.losses import Loss, value_and_gradient
from analysis.paths import Readout, expand

VARIANTS = [{"steps": steps, "solver": "euler"} for steps in (4, 16)]
# The methods in t, and how many of their stages lie between the ends of a step.
INNER_STAGES = {"euler": 0, "midpoint": 1, "heun": 0, "rk4": 2}


class Visit(NamedTuple):
    """One evaluation of a solve: the state, (B, *event), and the velocity there."""

    state: Tensor
    velocity: Tensor


class Rate(Flow):
    """The right-hand side of another ODE in a flow's time, in the form that ``solvers.step`` integrates."""

    def __init__(self, flow: Flow, rate: Callable[[Tensor, Tensor, Readout], Tensor]) -> None:
        self.path, self.rate = flow.path, rate

    def predict(self, x: Tensor, t: Tensor, readout: Readout) -> Tensor:
        """Return the rate of change at (x, t), like x; ``readout`` is the flow's velocity there."""
        return self.rate(x, t, readout)


def time_grid(t: Tensor, steps: int, solver: str) -> Tensor:
    """Return the uniform grid of ``steps`` steps from t to 1.

    Returns
    -------
    Tensor
        (steps + 1,) or (steps + 1, B).

    Raises
    ------
    ValueError
        Unless ``steps`` is at least 1 and ``solver`` is a Runge-Kutta method in t.
    """
    checks.known("solver", solver, INNER_STAGES)
    return solvers.uniform_grid(t, torch.ones_like(t), checks.steps(steps))


def walk(flow: Flow, x: Tensor, plan: solvers.StepPlan) -> Iterator[tuple[list[Visit], Tensor]]:
    """Yield the visits of each step of a plan, stage by stage, and the state at which the step ends."""
    for i in range(len(plan)):
        visits: list[Visit] = []

        def visit(state: Tensor, t: Tensor, readout: Readout, visits: list[Visit] = visits) -> Tensor:
            visits.append(Visit(state, flow.predict(state, t, readout)))
            return visits[-1].velocity

        x = solvers.step(Rate(flow, visit), x, plan[i])
        yield visits, x


def adjoint_step(flow: Flow, a: Tensor, plan: solvers.StepPlan, state_at: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the adjoint after one step backward, with the Jacobian of each stage at ``state_at(time)``."""

    def rate(a: Tensor, s: Tensor, readout: Readout) -> Tensor:
        return -flow.predict_vjp(state_at(s), s, readout)[1](a)

    return solvers.step(Rate(flow, rate), a, plan)


def in_turn(states: list[Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a function that returns the states one after the other, whatever the time."""
    queue = iter(states)
    return lambda s: next(queue)


def hermite(start: Visit, end: Visit, begin: Tensor, h: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the cubic in time with these states and velocities at ``begin`` and ``begin + h``."""

    def state_at(s: Tensor) -> Tensor:
        theta = expand(((s - begin) / h).nan_to_num(), end.state)  # 0/0 where a sample is at its end already
        rest = 1 - theta
        bend = expand(h, end.state) * theta * rest * (rest * start.velocity - theta * end.velocity)
        return rest.square() * (1 + 2 * theta) * start.state + theta.square() * (3 - 2 * theta) * end.state + bend

    return state_at


@register("adjoint_backsolve", VARIANTS)
def adjoint_backsolve(
    flow: Flow, loss: Loss, x: Tensor, t: Tensor, *, steps: int, solver: str = "euler"
) -> tuple[Tensor, Tensor, Tensor]:
    """Integrate state and adjoint back together from the end of the forward solve; memory is independent of steps."""
    grid = time_grid(t, steps, solver)
    endpoint = solvers.solve(flow, x, solvers.plan(solver, flow.path, grid))

    def rate(joint: Tensor, s: Tensor, readout: Readout) -> Tensor:
        velocity, pull = flow.predict_vjp(joint[:, 0], s, readout)
        return torch.stack([velocity, -pull(joint[:, 1])], 1)

    value, a = value_and_gradient(loss, endpoint)
    joint = torch.stack([endpoint, a], 1)
    joint = solvers.solve(Rate(flow, rate), joint, solvers.plan(solver, flow.path, grid.flip(0)))
    return joint[:, 1], endpoint, value


@register("adjoint_cached", VARIANTS)
def adjoint_cached(
    flow: Flow, loss: Loss, x: Tensor, t: Tensor, *, steps: int, solver: str = "euler"
) -> tuple[Tensor, Tensor, Tensor]:
    """Integrate the adjoint back along the stored states that the forward solve evaluated."""
    grid = time_grid(t, steps, solver)
    backward = solvers.plan(solver, flow.path, grid.flip(0))
    stored, endpoint = [], x
    for visits, endpoint in walk(flow, x, solvers.plan(solver, flow.path, grid)):  # noqa: B007
        stored.append([visit.state for visit in visits[: 1 + INNER_STAGES[solver]]])
    value, a = value_and_gradient(loss, endpoint)
    end = endpoint
    for i, states in enumerate(reversed(stored)):
        # The stages of a step backward run from its end, over those in between, to its start.
        a = adjoint_step(flow, a, backward[i], in_turn([end, *reversed(states)]))
        end = states[0]
    return a, endpoint, value


@register("adjoint_interpolated", VARIANTS)
def adjoint_interpolated(
    flow: Flow, loss: Loss, x: Tensor, t: Tensor, *, steps: int, solver: str = "euler"
) -> tuple[Tensor, Tensor, Tensor]:
    """Integrate the adjoint back along the Hermite interpolant of the forward solve's stored grid points."""
    grid = time_grid(t, steps, solver)
    backward = solvers.plan(solver, flow.path, grid.flip(0))
    stored, endpoint = [], x
    for visits, endpoint in walk(flow, x, solvers.plan(solver, flow.path, grid)):  # noqa: B007
        stored.append(visits[0])
    end = Visit(endpoint, flow.predict(endpoint, grid[-1], flow.path.readout("velocity", grid[-1])))
    value, a = value_and_gradient(loss, endpoint)
    h = grid.diff(dim=0)
    for i, start in enumerate(reversed(stored), 1):
        a = adjoint_step(flow, a, backward[i - 1], hermite(start, end, grid[-1 - i], h[-i]))
        end = start
    return a, endpoint, value
