r"""Whole lookahead surfaces: the gradients of every (steps, horizon) cell in one pass.

All cells run as one batch, forward and backward, by the flow's own fused solve of many plans if it has one, else step
count by step count; they are projected together, and the loss is differentiated for all of them at once. Horizons at t
itself take no steps, so every step count shares one greedy gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis import checks, errors, solvers
from analysis.cost import metered
from analysis.flow import Flow, Pullback
from analysis.gradients._lookahead import check_horizon
from analysis.gradients.registry import Estimate
from analysis.losses import Loss, values_and_gradients
from analysis.solvers.checkpointing import solve_all_vjp
from analysis.solvers.rows import of_rows, on_rows


@dataclass(frozen=True)
class Surface(Estimate):
    """The estimates of every (steps, horizon) cell, which ``figures.plot_surface`` draws.

    Attributes
    ----------
    gradient, endpoint, value, cost : as ``Estimate`` has them, with (len(steps), len(horizons)) before all shapes
    steps, horizons : the step counts, and the times up to which steps are taken
    """

    steps: tuple[int, ...]
    horizons: tuple[float, ...]

    def relative_error(self, truth: Tensor) -> Tensor:
        """Return the relative error (len(steps), len(horizons), B) against true gradients (B, *event)."""
        rows = [torch.stack([errors.relative_error(g, truth) for g in row]) for row in self.gradient]
        return torch.stack(rows)


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
    """Compute ``lookahead`` for every step count and horizon, on grids uniform in t.

    Parameters
    ----------
    x, t : states (B, *event) and times, a float or (B,)
    steps : step counts, at least 1 each
    horizons : times in [t, 1] that no sample's t exceeds

    Raises ``ValueError`` as ``lookahead`` does. The cost is that of the whole surface, per sample.

    Returns
    -------
    Surface
        Gradients and endpoints (len(steps), len(horizons), B, *event), values (len(steps), len(horizons), B); the cost
        is that of the whole surface, per sample.

    Raises
    ------
    TypeError
        For arguments of another kind.
    ValueError
        As ``lookahead`` does.
    """
    x, t = checks.arguments(flow, loss, x, t)
    steps = [checks.steps(n) for n in checks.sequence("steps", steps)]
    ends = [checks.time(s, (), name="horizon") for s in checks.sequence("horizons", horizons)]
    times = torch.stack([check_horizon(s, t, x) for s in ends]).to(t.device)
    checks.known("solver", solver, solvers.SOLVERS)
    with metered(flow, x) as (counted, cost):
        ahead = torch.stack([(s > t).any() for s in times])
        here = _cells(counted, loss, x, t, times[~ahead], [], solver)
        cells_ahead = _cells(counted, loss, x, t, times[ahead], steps, solver)
        gradient, endpoint, value = (
            _interleave(moved, stayed, ahead) for moved, stayed in zip(cells_ahead, here, strict=True)
        )
    return Surface(gradient, endpoint, value, cost, tuple(steps), tuple(float(s) for s in ends))


def _interleave(moved: Tensor, stayed: Tensor, ahead: Tensor) -> Tensor:
    out = moved.new_empty((len(moved), len(ahead), *moved.shape[2:]))
    out[:, ahead], out[:, ~ahead] = moved, stayed
    return out


def _cells(
    flow: Flow, loss: Loss, x: Tensor, t: Tensor, horizons: Tensor, steps: Sequence[int], solver: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradients, endpoints and values, each with leading axes (step counts, horizons); no steps count as one."""
    count, batch = len(horizons), len(x)
    state = x.expand(max(1, len(steps)), count, *x.shape)
    if not count:
        return state, state, state.new_empty(state.shape[:3])
    pulls: list[Pullback] = []
    cells = flow.select_rows(torch.arange(batch, device=x.device).repeat(count))
    if steps:
        start, repeat = (t.expand(count), batch) if t.ndim == 0 else (t.expand(batch).repeat(count), 1)
        end = horizons.repeat_interleave(batch // repeat)

        def solved(flow: Flow, x: Tensor, rows: Tensor | None) -> tuple[Tensor, Pullback]:
            grids = [solvers.uniform_grid(of_rows(start, rows), of_rows(end, rows), n) for n in steps]
            return solve_all_vjp(flow, x, [solvers.plan(solver, flow.path, grid, repeat) for grid in grids])

        # One time for all samples lies before all of these horizons; times of their own may be at one of them already.
        ahead = end > start if repeat == 1 else torch.ones((), dtype=torch.bool)
        ends, solve_pull = on_rows(cells, state.flatten(1, 2), ahead, solved, dim=1)
        state = ends.view(state.shape)
        pulls.append(lambda v: solve_pull(v.flatten(1, 2)).view(v.shape))
    endpoint, pull = _project_all(flow, state, horizons)
    pulls.append(pull)
    value, adjoint = values_and_gradients(loss, endpoint.flatten(0, 1))
    adjoint = adjoint.view(state.shape)
    for pull in reversed(pulls):
        adjoint = pull(adjoint)
    return adjoint, endpoint, value.view(state.shape[:3])


def _project_all(flow: Flow, state: Tensor, horizons: Tensor) -> tuple[Tensor, Pullback]:
    """Project the states whose horizon is short of 1; at 1 the state is the sample itself."""
    short = horizons < 1
    if not bool(short.any()):
        return state, lambda v: v
    moving = state[:, short]
    batch, count = state.shape[2], len(state) * int(short.sum())
    flow = flow.select_rows(torch.arange(batch, device=state.device).repeat(count))
    plan = solvers.projection(flow.path, horizons[short].repeat(len(state)), batch)
    projected, pull = solve_all_vjp(flow, moving.flatten(0, 2)[None], [plan])
    endpoint = state.clone()
    endpoint[:, short] = projected.view(moving.shape)

    def pullback(v: Tensor) -> Tensor:
        out = v.clone()
        out[:, short] = pull(v[:, short].flatten(0, 2)[None]).view(moving.shape)
        return out

    return endpoint, pullback
