r"""Ideal gradients of flows that solve whole plans themselves: fixed steps, halved until the gradient stays as it is.

A fused solve (``Flow.solve_vjp``) takes a hundredth of the time of an adaptive one in Python, so that many small steps
cost less than few large ones. The method is Dormand and Prince's of order 5, in the canonical time, where the field is
smooth from noise to data, on a mesh that an adaptive solve has found. Each sample has as many steps as it needs. The
gradient is the exact one of the discrete map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analysis import solvers
from analysis.adjoint_solves import Problem
from analysis.errors import relative
from analysis.flow import Pullback
from analysis.integration import Budget
from analysis.losses import value_and_gradient

SOLVER, STAGES = "dopri5", 6
FIRST, MOST = 4, 512  # parts of an interval of the mesh
ENOUGH = 1e-12  # a difference that needs no smaller steps
SETTLED, SLOW = 1e-9, 1 / 4  # a difference below the one, which shrinks by less than the other, is round-off


@dataclass(frozen=True)
class Doubled:
    """Gradients and endpoints (B, *event), and the differences (B,) from gradients of half as many steps, relative."""

    gradient: Tensor
    endpoint: Tensor
    difference: Tensor


@dataclass(frozen=True)
class _Rows:
    """Some samples of a problem; consecutive ones share their times in groups of ``repeat``."""

    problem: Problem
    rows: Tensor
    begin: Tensor
    end: Tensor
    repeat: int

    @classmethod
    def of(cls, problem: Problem, rows: Tensor) -> _Rows:
        """Find the groups, where they are of one size."""
        begin, end = torch.broadcast_tensors(problem.view.begin, problem.view.end)
        if not begin.ndim:
            return cls(problem, rows, begin, end, 1)
        begin, end = begin[rows], end[rows]
        counts = begin.unique_consecutive(return_counts=True)[1]
        repeat = int(counts[0]) if bool((counts == counts[0]).all()) else 1
        return cls(problem, rows, begin[::repeat], end[::repeat], repeat)

    def solve(self, state: Tensor, at: np.ndarray) -> tuple[Tensor, Pullback] | None:
        """Return the samples' states after steps that end at ``at``, in [0, 1], and the pullback."""
        flow = self.problem.view.flow
        shares = torch.from_numpy(at).reshape(-1, *[1] * self.begin.ndim).to(self.begin)
        grid = torch.lerp(self.begin, self.end, shares)
        solved = flow.solve_vjp(state[None], [solvers.plan(SOLVER, flow.path, grid, self.repeat)])
        return None if solved is None else (solved[0][0], lambda v: solved[1](v[None])[0])


def solve(problem: Problem, mesh: Sequence[float], tolerance: float, budget: Budget) -> Doubled | None:
    """Divide the intervals of a mesh into 4, 8, ... parts until no gradient changes by more than it must.

    A gradient that changes by at most ``tolerance``, 1e-12, or its round-off has steps enough.

    Returns
    -------
    Doubled or None
        None where the flow has no solve of its own, or needs more than 512 parts.

    Raises
    ------
    CertificationError
        Where the budget is spent.
    """
    rows, parts = torch.arange(len(problem.x)), FIRST
    before = torch.full((len(rows),), torch.inf, dtype=torch.float64)
    endpoint = gradient = torch.full_like(problem.x, torch.nan)
    while len(rows) and parts <= MOST:
        some = _Rows.of(problem, rows)
        if (solved := some.solve(problem.start[rows], _divided(mesh, parts))) is None:
            return None
        budget.spend(0.0, STAGES * parts * (len(mesh) - 1))
        endpoint = endpoint.index_copy(0, rows, problem.view.leave(endpoint.index_copy(0, rows, solved[0]))[rows])
        adjoint = value_and_gradient(problem.loss, endpoint)[1]
        pulled = problem.gradient(adjoint.index_copy(0, rows, solved[1](adjoint[rows])))[rows]
        difference = relative(pulled - gradient[rows], pulled).double().nan_to_num(torch.inf)
        gradient = gradient.index_copy(0, rows, pulled)
        slow = (difference > SLOW * before[rows]) & (difference <= SETTLED)
        before = before.index_copy(0, rows, difference)
        rows, parts = rows[~((difference <= max(tolerance, ENOUGH)) | slow)], 2 * parts
    return None if len(rows) else Doubled(gradient, endpoint, before)


def _divided(mesh: Sequence[float], parts: int) -> np.ndarray:
    return np.interp(np.arange(parts * (len(mesh) - 1) + 1) / parts, np.arange(len(mesh)), mesh)
