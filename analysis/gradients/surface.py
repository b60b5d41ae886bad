r"""Whole lookahead surfaces: the gradients of every (steps, horizon) cell in one pass per number of steps.

All horizons of one step count run as one batch, forward and backward: they share their solver steps' work, the flow
computes what depends on time alone once per horizon, and the loss is differentiated for all of them at once. Horizons
at t itself take no steps, so that every step count shares one greedy gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis import checks, solvers
from analysis.cost import Cost, MeteredFlow, measured
from analysis.flow import Flow, Pullback
from analysis.gradients.lookahead import check_horizon, project
from analysis.losses import Loss, value_and_gradient


@dataclass(frozen=True)
class Surface:
    """Gradients and endpoints (len(steps), len(horizons), B, *event), values (len(steps), len(horizons), B), cost."""

    gradient: Tensor
    endpoint: Tensor
    value: Tensor
    cost: Cost


def lookahead_surface(
    flow: Flow,
    loss: Loss,
    x: Tensor,
    t: Tensor | float,
    steps: Sequence[int],
    horizons: Sequence[float],
    *,
    solver: str = "euler",
) -> Surface:
    """Return ``lookahead`` for every step count and horizon, on grids uniform in t.

    Parameters
    ----------
    x, t : states (B, *event) and times, a float or (B,)
    steps : step counts, at least 1 each
    horizons : times in [t, 1] that no sample's t exceeds

    Raises ``ValueError`` as ``lookahead`` does. The cost is that of the whole surface, per sample.
    """
    x, t = flow.checked(x, t)
    steps = [checks.count("steps", n) for n in steps]
    times = torch.stack([check_horizon(s, t, x) for s in horizons])
    checks.known("solver", solver, solvers.SOLVERS)
    cost = Cost()
    with measured(cost, x.device):
        metered = MeteredFlow(flow, len(x), cost)
        ahead = torch.stack([(s > t).any() for s in times])
        here = _cells(metered, loss, x, t, times[~ahead], 0, solver)
        parts = [_cells(metered, loss, x, t, times[ahead], n, solver) for n in steps]
        gradient, endpoint, value = (
            torch.stack([_interleave(part[k], here[k], ahead) for part in parts]) for k in range(3)
        )
    return Surface(gradient, endpoint, value, cost)


def _interleave(moved: Tensor, stayed: Tensor, ahead: Tensor) -> Tensor:
    out = moved.new_empty((len(ahead), *moved.shape[1:]))
    out[ahead], out[~ahead] = moved, stayed
    return out


def _cells(
    flow: Flow, loss: Loss, x: Tensor, t: Tensor, horizons: Tensor, steps: int, solver: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradients, endpoints and values of horizons (H,), each with a leading axis H, as one batch of H * B."""
    count, batch = len(horizons), x.shape[0]
    state = x.repeat(count, *[1] * (x.ndim - 1))
    start = t.expand(batch).repeat(count)
    end = horizons.repeat_interleave(batch)
    pulls: list[Pullback] = []
    if steps and count:
        grid = solvers.uniform_grid(start, end, steps)
        state, pull = solvers.solve_vjp(flow, state, solvers.plan(solver, flow.path, grid))
        pulls.append(pull)
    endpoint, pull = _project_all(flow, state, end)
    pulls.append(pull)
    endpoint = endpoint.unflatten(0, (count, batch))
    value, adjoint = _losses(loss, endpoint)
    adjoint = adjoint.flatten(0, 1)
    for pull in reversed(pulls):
        adjoint = pull(adjoint)
    return adjoint.unflatten(0, (count, batch)), endpoint, value


def _project_all(flow: Flow, state: Tensor, s: Tensor) -> tuple[Tensor, Pullback]:
    """Project the states whose horizon is short of 1; at 1 the state is the sample itself."""
    short = s < 1
    if not bool(short.any()) or bool(short.all()):
        return project(flow, state, s)
    endpoint = state.clone()
    endpoint[short], pull = project(flow, state[short], s[short])

    def pullback(v: Tensor) -> Tensor:
        out = v.clone()
        out[short] = pull(v[short])
        return out

    return endpoint, pullback


def _losses(loss: Loss, endpoint: Tensor) -> tuple[Tensor, Tensor]:
    """Return values (H, B) and gradients (H, B, *event): one loss, which may hold B targets, for every horizon."""
    if not len(endpoint):
        return endpoint.new_empty(endpoint.shape[:2]), endpoint
    pairs = [value_and_gradient(loss, e) for e in endpoint]
    return torch.stack([value for value, _ in pairs]), torch.stack([gradient for _, gradient in pairs])
