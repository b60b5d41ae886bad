r"""Ideal gradients of a learned flow at many times, at the cost of one: a fine solve and a coarser check.

The adjoint that one backward solve carries from t = 1 to the earliest time is the ideal gradient at every time in
between. States are therefore taken on one trajectory per sample, and a fine solve gives the gradients at all of them.
It uses classical Runge-Kutta steps in the time tau and scale in which every path is regular at both ends
(``analysis.canonical``), and its backward pass is the exact adjoint of those steps. A second solve with half the steps
starts from the same states, and starts again half and three quarters of the way through the times, since late gradients
do not depend on early steps; the distance of its gradients is the error bound. The finer solve, of order four, errs by
about a fifteenth of that distance, so the distance is a bound where the solves converge, and is large where they do
not.

Images have pixels that never vary, so a learned field changes over each doubling of zeta down to a scale of its own.
Steps are therefore even in :math:`(1 - \tau) + \mathrm{asinh}(\zeta/\zeta_0)/\mathrm{asinh}(1/\zeta_0)`: every halving
of zeta down to zeta_0 gets as many steps as tau.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from analysis import checks, solvers
from analysis.canonical import CANONICAL
from analysis.errors import relative_error
from analysis.flow import Flow
from analysis.losses import Loss, value_and_gradient
from analysis.reference import Reference
from analysis.solvers.checkpointing import differentiate

LATE = 1e-3  # zeta_0
TABLE = 512  # points by which the clock is inverted; a grid needs no more than to be smooth


@dataclass(frozen=True)
class Trajectory:
    """The trajectories of a flow through a batch of states, with the ideal gradient at each of T times.

    Attributes
    ----------
    states : (T, B, *event), the states at each time
    references : one per time, of tier "converged"; the error bound is the relative L2 distance of the gradients from
        those of half the steps
    steps : how many steps the finer solve took, of four evaluations each
    """

    states: Tensor
    references: tuple[Reference, ...]
    steps: int


def converged_gradients(flow: Flow, loss: Loss, x: Tensor, times: Sequence[float], *, steps: int) -> Trajectory:
    """Compute the ideal gradients along the trajectories through x (B, *event) at the first of the times.

    Parameters
    ----------
    flow, loss : as the estimators take them
    times : (T,), increasing, in (0, 1)
    steps : of the finer solve from the first time to 1; a few more where the times lie close together

    Returns
    -------
    Trajectory
        States and references at all times.

    Raises
    ------
    TypeError
        For arguments of another kind.
    ValueError
        For x that the flow does not take, times that do not increase or lie outside (0, 1), and fewer than 2 steps.
    """
    x, _ = checks.arguments(flow, loss, x, float(times[0]))
    if not all(0 < a < b <= 1 for a, b in pairwise((*times, 1.0))):
        raise ValueError(f"times must increase within (0, 1), got {list(times)}")
    if (steps := checks.steps(steps)) < 2:
        raise ValueError(f"steps must be at least 2, as the second solve takes half of them; got {steps}")
    at = torch.tensor([*times, 1.0], dtype=torch.float64)
    clock = _clock(flow.path.zeta(at))
    halves = [max(1, math.ceil(steps / 2 * float(w / (clock[0] - clock[-1])))) for w in -clock.diff()]
    states, gradient = _solved(flow, loss, x, at, [2 * n for n in halves])
    coarse = gradient.clone()
    for k in sorted({0, len(times) // 2, 3 * len(times) // 4}):
        coarse[k:] = _solved(flow, loss, states[k], at[k:], halves[k:])[1]
    bound = torch.stack([relative_error(*pair) for pair in zip(coarse, gradient, strict=True)])
    references = tuple(Reference(g, states[-1], "converged", b) for g, b in zip(gradient, bound, strict=True))
    return Trajectory(states[:-1], references, 2 * sum(halves))


def _solved(flow: Flow, loss: Loss, x: Tensor, at: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return states (T + 1, B, *event) at times (T + 1,) that end at 1, and the gradients at all but the last."""
    canonical = flow.with_path(CANONICAL)
    zeta, scale = flow.path.zeta(at), flow.path.radius(at).to(x)
    states, pulls = [x / scale[0]], []
    for (start, end), count in zip(pairwise(zeta), counts, strict=True):
        plan = solvers.plan("rk4", CANONICAL, _grid(start, end, count))
        state, pull = differentiate(canonical, states[-1], plan, "checkpoint")
        states.append(state)
        pulls.append(pull)
    adjoint = value_and_gradient(loss, states[-1] * scale[-1])[1] * scale[-1]
    gradients = []
    for pull, size in zip(reversed(pulls), scale[:-1].flip(0), strict=True):
        adjoint = pull(adjoint)
        gradients.append(adjoint / size)
    return torch.stack([y * size for y, size in zip(states, scale, strict=True)]), torch.stack(gradients[::-1])


def _clock(zeta: Tensor) -> Tensor:
    """Return the variable in which steps are even, falling from the noise to zero at the data."""
    late = torch.tensor(LATE, dtype=torch.float64)
    return 1 - CANONICAL.time_from_zeta(zeta) + torch.asinh(zeta / late) / torch.asinh(1 / late)


def _grid(start: Tensor, end: Tensor, count: int) -> Tensor:
    """Return times (count + 1,) on the canonical path between two zetas, even in the clock."""
    ends = torch.stack([start, end])
    low, high = torch.asinh(ends.flip(0) / LATE)
    table = LATE * torch.sinh(low + (high - low) * torch.linspace(0, 1, TABLE, dtype=torch.float64))
    level = _clock(ends[0]) + (_clock(ends[1]) - _clock(ends[0])) * torch.linspace(0, 1, count + 1, dtype=torch.float64)
    inner = torch.from_numpy(np.interp(level[1:-1].numpy(), _clock(table).numpy(), table.numpy()))
    return CANONICAL.time_from_zeta(torch.cat([ends[:1], inner, ends[1:]]))
