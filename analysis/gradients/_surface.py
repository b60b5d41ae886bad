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
    times = torch.stack(ends).to(t.device)
    each = times[:, None]
    for s in times[(each < t).any(1)]:
        check_horizon(s, t, x)
    checks.known("solver", solver, solvers.SOLVERS)
    with metered(flow, x) as (counted, cost):
        ahead = (each > t).any(1)
        gradient, endpoint, value = _cells(counted, loss, x, t, (times[~ahead], times[ahead]), steps, solver)
    place = _places(ahead, len(steps)).to(x.device)
    gradient, endpoint, value = (part[place] for part in (gradient, endpoint, value))
    return Surface(gradient, endpoint, value, cost, tuple(steps), tuple(float(s) for s in ends))


def _places(ahead: Tensor, steps: int) -> Tensor:
    """Return where the cells (steps, horizons) are among those of ``_cells``, for the mask of horizons ahead."""
    behind, count = torch.cumsum(~ahead, 0) - 1, torch.cumsum(ahead, 0) - 1
    first = (~ahead).sum() + torch.arange(steps, device=ahead.device)[:, None] * ahead.sum()
    return torch.where(ahead, first + count, behind)


def _cells(
    flow: Flow,
    loss: Loss,
    x: Tensor,
    t: Tensor,
    horizons: tuple[Tensor, Tensor],
    steps: Sequence[int],
    solver: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradients, endpoints and values of all cells along one axis: of horizons at t, then of those ahead."""
    here, ahead = horizons
    states, pull = _solve(flow, x, t, ahead, steps, solver)
    cells = torch.cat([x.expand(len(here), *x.shape), states])
    endpoint, pull_projection = _project(flow, cells, torch.cat([here, ahead.repeat(len(steps))]))
    value, loss_gradient = values_and_gradients(loss, endpoint)
    adjoint = pull_projection(loss_gradient)
    return torch.cat([adjoint[: len(here)], pull(adjoint[len(here) :])]), endpoint, value


def _solve(
    flow: Flow, x: Tensor, t: Tensor, horizons: Tensor, steps: Sequence[int], solver: str
) -> tuple[Tensor, Pullback]:
    """Return the states (step counts times horizons, B, *event) at the horizons, and their pullback."""
    count, batch = len(horizons), len(x)
    states = x.expand(len(steps), count, *x.shape)
    if not count:
        return states.flatten(0, 1), lambda v: v
    cells = flow.select_rows(torch.arange(batch, device=x.device).repeat(count))
    start, repeat = (t.expand(count), batch) if t.ndim == 0 else (t.expand(batch).repeat(count), 1)
    end = horizons.repeat_interleave(batch // repeat)

    def solved(flow: Flow, x: Tensor, rows: Tensor | None) -> tuple[Tensor, Pullback]:
        grids = [solvers.uniform_grid(of_rows(start, rows), of_rows(end, rows), n) for n in steps]
        return solve_all_vjp(flow, x, [solvers.plan(solver, flow.path, grid, repeat) for grid in grids])

    # One time for all samples lies before all of these horizons; times of their own may be at one of them already.
    moves = end > start if repeat == 1 else torch.ones((), dtype=torch.bool)
    flat = states.flatten(1, 2)
    ends, pull = on_rows(cells, flat, moves, solved, dim=1)
    shape = (len(steps) * count, *x.shape)
    return ends.reshape(shape), lambda v: pull(v.reshape(flat.shape)).reshape(shape)


def _project(flow: Flow, states: Tensor, horizons: Tensor) -> tuple[Tensor, Pullback]:
    """Project the states (cells, B, *event) whose horizon (cells,) is short of 1; at 1 they are samples themselves."""
    short = horizons < 1
    batch, count = states.shape[1], int(short.sum())
    if not count:
        return states, lambda v: v
    flow = flow.select_rows(torch.arange(batch, device=states.device).repeat(count))
    plan = solvers.projection(flow.path, horizons[short], batch)

    def put(moved: Tensor, v: Tensor) -> Tensor:
        out = v.clone()
        out[short] = moved.view(count, *v.shape[1:])
        return out

    end, pull = solve_all_vjp(flow, states[short].flatten(0, 1)[None], [plan])
    return put(end, states), lambda v: put(pull(v[short].flatten(0, 1)[None]), v)
