"""Time grids: where the steps of a solve lie between its two ends."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from analysis import checks
from analysis.paths import AffinePath
from analysis.solvers.coordinates import COORDINATES

EDM_RHO = 7.0


def _fractions(start: Tensor, steps: int) -> Tensor:
    fraction = torch.linspace(0, 1, steps + 1, dtype=start.dtype, device=start.device)
    return fraction.reshape(-1, *[1] * start.ndim)


def _together(start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Broadcast the two times to one shape and device; a scalar time may be on the CPU."""
    device = end.device if end.ndim else start.device
    start, end = torch.broadcast_tensors(start.to(device), end.to(device))
    return start, end


def uniform_grid(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Return times (steps + 1, ...) equally spaced from ``start`` to ``end``, with both ends exact."""
    start, end = _together(start, end)
    grid = start + _fractions(start, steps) * (end - start)
    grid[-1] = end
    return grid


def _between(path: AffinePath, start: Tensor, end: Tensor, steps: int, coordinate: str, power: float = 1.0) -> Tensor:
    """Return times at which c^(1/power) is equally spaced."""
    start, end = _together(start, end)
    c = COORDINATES[coordinate]
    ends = [c.value(path, s) ** (1 / power) for s in (start, end)]
    if not bool(torch.isfinite(torch.stack(ends)).all()):
        raise ValueError(f"grid: {coordinate} is infinite at an end of [t, horizon]; take another grid or horizon")
    grid = c.time(path, (ends[0] + _fractions(start, steps) * (ends[1] - ends[0])) ** power)
    grid[0], grid[-1] = start, end
    return grid


GRIDS: checks.Registry[Callable[[AffinePath, Tensor, Tensor, int], Tensor]] = checks.Registry(
    "grid",
    {
        "t": lambda path, start, end, steps: uniform_grid(start, end, steps),
        "zeta": lambda path, start, end, steps: _between(path, start, end, steps, "zeta"),
        "logsnr": lambda path, start, end, steps: _between(path, start, end, steps, "logsnr"),
        "edm": lambda path, start, end, steps: _between(path, start, end, steps, "zeta", EDM_RHO),
    },
)


def time_grid(grid: str | Tensor, path: AffinePath, start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Build the times of a named grid from ``start`` to ``end``, or check the times that a user gives.

    ``"t"``, ``"zeta"``, ``"logsnr"`` are uniform in that variable, ``"edm"`` in zeta^(1/7) (arXiv 2206.00364, eq. 5). A
    tensor (steps + 1,) must increase from ``start`` to ``end`` within [0, 1].

    Returns
    -------
    Tensor
        (steps + 1, ...).

    Raises
    ------
    TypeError
        For a grid that is neither a name nor a tensor.
    ValueError
        For an unknown name, times that do not increase from ``start`` to ``end``, and a variable that is infinite at an
        end.
    """
    steps = checks.steps(steps)
    if isinstance(grid, str):
        return GRIDS[checks.known("grid", grid, GRIDS)](path, start, end, steps)
    if not isinstance(grid, Tensor | np.ndarray):
        raise TypeError(f"grid must be one of {', '.join(GRIDS)}, or a tensor of times; got {checks.kind(grid)}")
    grid = checks.tensor(grid, "grid").to(start.device, torch.float64)
    inside = bool(((grid >= 0) & (grid <= 1)).all())
    if not grid.ndim or grid.shape[0] != steps + 1 or not inside or not bool((grid.diff(dim=0) > 0).all()):
        raise ValueError(f"grid must hold steps + 1 = {steps + 1} increasing times in [0, 1]")
    if not (
        torch.equal(*torch.broadcast_tensors(grid[0], start)) and torch.equal(*torch.broadcast_tensors(grid[-1], end))
    ):
        raise ValueError("grid must start at t and end at the horizon")
    return grid
