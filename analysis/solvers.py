r"""One step of an ODE method, whole solves, and their exact discrete adjoints.

Every explicit method on an affine path is a list of stages. Stage i evaluates a readout of the flow,
:math:`f_i = a_i \hat x_1(X_i, t_i) + b_i \hat x_0(X_i, t_i)`, at a state that is a linear combination of the step's
start and of earlier evaluations, and so is the step's end. Only the coefficients differ between methods:

- a Runge-Kutta tableau in a coordinate c with dy/dc = f, x = k y (``analysis.coordinates``): stages at
  :math:`X_i = k_i (x/k_0 + h \sum_j a_{ij} f_j)`; named ``rk4`` in t, ``rk4_zeta``, ``rk4_gamma``, ``rk4_logsnr``;
- DDIM (Song et al. 2021, arXiv 2010.02502), Euler in gamma and, equally, in zeta: the readout
  :math:`\alpha_s \hat x_1 + \sigma_s \hat x_0` itself, regular at both ends of time;
- multistep methods also combine evaluations of the step before: Adams-Bashforth 2 in t, and DPM-Solver++(2M)
  (Lu et al. 2022, arXiv 2211.01095).

Reversing the linear combinations and pulling back through each evaluation gives the gradient of the discrete map.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from analysis import checks
from analysis.affine import AffinePath, Readout, expand
from analysis.coordinates import COORDINATES, uniform_grid
from analysis.flow import Flow, Pullback
from analysis.tableaux import TABLEAUX, Tableau

__all__ = ["SOLVERS", "Solver", "Stages", "plan", "solve", "solve_vjp", "step", "step_vjp", "uniform_grid"]
Row = tuple[Tensor | None, ...]
Carry = tuple[Tensor, ...]  # the state, then the evaluations that a multistep method remembers
CarryPullback = Callable[[Carry], Carry]


@dataclass(frozen=True)
class Stages:
    """The coefficients of one step, or of n steps along a leading axis; each tensor is (), (B,), (n,) or (n, B).

    ``rows[i]`` combines (x, the ``memory`` evaluations of the step before, f_1, ..., f_i) into the state of stage
    i + 1; the last row gives the end of the step. ``None`` stands for a zero. Where samples share their times, a
    coefficient may serve ``repeat`` consecutive ones: B is then their number over ``repeat``.
    """

    times: tuple[Tensor, ...]
    readouts: tuple[Readout, ...]
    rows: tuple[Row, ...]
    memory: int = 0
    repeat: int = 1

    def __getitem__(self, i: int) -> Stages:
        rows = tuple(tuple(None if c is None else self._each(c[i]) for c in row) for row in self.rows)
        readouts = tuple(Readout(*(self._each(c[i]) for c in readout)) for readout in self.readouts)
        return Stages(tuple(self._each(t[i]) for t in self.times), readouts, rows, self.memory)

    def _each(self, c: Tensor) -> Tensor:
        return c.repeat_interleave(self.repeat) if self.repeat > 1 else c

    def __len__(self) -> int:
        return len(self.times[0])


@dataclass(frozen=True)
class Solver:
    """A method: its declared order, evaluations per step, and ``coefficients(path, grid (n + 1, ...)) -> Stages``."""

    order: int
    evaluations: int
    coefficients: Callable[[AffinePath, Tensor], Stages]


def runge_kutta(tableau: Tableau, coordinate: str) -> Solver:
    """Make the solver that applies a tableau in a coordinate."""
    c = COORDINATES[coordinate]

    def coefficients(path: AffinePath, grid: Tensor) -> Stages:
        start, end = grid[:-1], grid[1:]
        origin = c.value(path, start)
        h = c.value(path, end) - origin
        # A stage at the step's end takes that time exactly, not up to round-off.
        inner = {0.0: start, 1.0: end}
        times = [inner[n] if n in inner else c.time(path, origin + n * h) for n in tableau.c]
        scales = [c.scale(path, t) for t in (*times, end)]
        rows = [
            (scale / scales[0], *(None if a == 0 else a * h * scale for a in row))
            for row, scale in zip((*tableau.a, tableau.b), scales, strict=True)
        ]
        return Stages(tuple(times), tuple(c.readout(path, t) for t in times), tuple(rows))

    return Solver(tableau.order, len(tableau.b), coefficients)


def _ddim(path: AffinePath, grid: Tensor) -> Stages:
    one = torch.ones_like(grid[:-1])
    readout = path.combination(path.alpha(grid[1:]), path.sigma(grid[1:]), grid[:-1])
    return Stages((grid[:-1],), (readout,), ((one,), (None, one)))


def _adams_bashforth_2(path: AffinePath, grid: Tensor) -> Stages:
    start, h, one = grid[:-1], grid.diff(dim=0), torch.ones_like(grid[:-1])
    ratio = torch.zeros_like(h)  # the first step has no past, and is Euler's
    ratio[1:] = torch.where(h[1:] == 0, 0.0, h[1:] / h[:-1])  # a sample whose horizon is its t takes no steps
    return Stages(
        (start,), (path.readout("velocity", start),), ((one, None), (one, -h * ratio / 2, h * (1 + ratio / 2))), 1
    )


def _dpm_solver_pp_2m(path: AffinePath, grid: Tensor) -> Stages:
    start, end, one = grid[:-1], grid[1:], torch.ones_like(grid[:-1])
    h = path.log_snr(end) - path.log_snr(start)
    ratio = torch.zeros_like(h)  # h / (2 h_before); first order at the first step, and at the end where h is infinite
    ratio[1:] = torch.where(torch.isfinite(h[1:]) & (h[1:] != 0), h[1:] / (2 * h[:-1]), 0.0)
    shrink = path.sigma(end) / path.sigma(start)
    gain = path.alpha(end) - shrink * path.alpha(start)
    return Stages(
        (start,), (path.readout("target", start),), ((one, None), (shrink, -gain * ratio, gain * (1 + ratio))), 1
    )


SOLVERS: dict[str, Solver] = {
    name + ("" if coordinate == "t" else f"_{coordinate}"): runge_kutta(tableau, coordinate)
    for coordinate in COORDINATES
    for name, tableau in TABLEAUX.items()
}
SOLVERS |= {
    "ddim": Solver(1, 1, _ddim),
    "euler_gamma": Solver(1, 1, _ddim),  # equal, and regular at sigma = 0
    "ab2": Solver(2, 1, _adams_bashforth_2),
    "dpmpp_2m": Solver(2, 1, _dpm_solver_pp_2m),
}


def plan(solver: str, path: AffinePath, grid: Tensor, repeat: int = 1) -> Stages:
    """Return the stages of all steps on a grid of times (n + 1,) or (n + 1, B), of ``repeat`` samples each.

    Raises ``ValueError`` for an unknown solver (the message lists the known ones), and where a coefficient is infinite:
    gamma at sigma = 0, zeta at alpha = 0.
    """
    stages = SOLVERS[checks.known("solver", solver, SOLVERS)].coefficients(path, grid)
    used = [c for row in stages.rows for c in row if c is not None]
    used += [c for readout in stages.readouts for c in (readout.target, readout.score)]
    bad = functools.reduce(torch.logical_or, [~torch.isfinite(c) for c in used])
    if bool(bad.any()):
        raise ValueError(
            f"solver {solver!r} has infinite coefficients on {path} in a step that ends at t = "
            f"{float(grid[1:].expand(bad.shape)[bad].max()):.6g}; use ddim, a solver in zeta, or a horizon short of it"
        )
    return replace(stages, repeat=repeat)


def projection(path: AffinePath, time: Tensor, repeat: int = 1) -> Stages:
    """Return the plan of one step that ends at the target prediction at ``time``, () or (B,)."""
    time = time[None]
    one = torch.ones_like(time)
    return Stages((time,), (path.readout("target", time),), ((one,), (None, one)), repeat=repeat)


def _combine(row: Row, terms: Sequence[Tensor]) -> Tensor:
    return functools.reduce(torch.add, [expand(c, v) * v for c, v in zip(row, terms, strict=True) if c is not None])


def begin(x: Tensor, stages: Stages) -> Carry:
    """Return the carry before the first step: the state, and a past of zeros, which the first step does not use."""
    return (x, *[torch.zeros_like(x)] * stages.memory)


def advance(flow: Flow, carry: Carry, stages: Stages) -> Carry:
    """Return the carry after one step."""
    terms = list(carry)
    for time, readout, row in zip(stages.times, stages.readouts, stages.rows, strict=False):
        terms.append(flow.predict(_combine(row, terms), time, readout))
    return (_combine(stages.rows[-1], terms), *terms[len(terms) - stages.memory :])


def advance_vjp(flow: Flow, carry: Carry, stages: Stages) -> tuple[Carry, CarryPullback]:
    """Return the carry after one step and the pullback of the step map."""
    terms, pulls = list(carry), []
    for time, readout, row in zip(stages.times, stages.readouts, stages.rows, strict=False):
        value, pull = flow.predict_vjp(_combine(row, terms), time, readout)
        terms.append(value)
        pulls.append(pull)
    kept = len(terms) - stages.memory

    def pullback(cotangents: Carry) -> Carry:
        adjoints: list[Tensor | None] = [_scaled(c, cotangents[0]) for c in stages.rows[-1]]
        adjoints[kept:] = [_add(a, v) for a, v in zip(adjoints[kept:], cotangents[1:], strict=True)]
        for i in reversed(range(len(pulls))):
            if (adjoint := adjoints.pop()) is not None:
                state = pulls[i](adjoint)
                adjoints = [_add(a, _scaled(c, state)) for a, c in zip(adjoints, stages.rows[i], strict=True)]
        return tuple(torch.zeros_like(carry[0]) if a is None else a for a in adjoints)

    return (_combine(stages.rows[-1], terms), *terms[kept:]), pullback


def _scaled(coefficient: Tensor | None, v: Tensor) -> Tensor | None:
    return None if coefficient is None else expand(coefficient, v) * v


def _add(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


def _one_step(stages: Stages) -> Stages:
    if stages.memory:
        raise ValueError("solver must be a one-step method here, and this one remembers the step before")
    return stages


def step(flow: Flow, x: Tensor, stages: Stages) -> Tensor:
    """Return the state after one step of a one-step method from x (B, *event)."""
    return advance(flow, (x,), _one_step(stages))[0]


def step_vjp(flow: Flow, x: Tensor, stages: Stages) -> tuple[Tensor, Pullback]:
    """Return the state after one step of a one-step method, and the pullback of the step map."""
    (end,), pull = advance_vjp(flow, (x,), _one_step(stages))
    return end, lambda v: pull((v,))[0]


def solve(flow: Flow, x: Tensor, stages: Stages) -> Tensor:
    """Return the state after all steps of a plan."""
    carry = begin(x, stages)
    for i in range(len(stages)):
        carry = advance(flow, carry, stages[i])
    return carry[0]


def solve_vjp(flow: Flow, x: Tensor, stages: Stages) -> tuple[Tensor, Pullback]:
    """Return the state after all steps and the pullback of the discrete map, each step's in turn."""
    carry, pulls = begin(x, stages), []
    for i in range(len(stages)):
        carry, pull = advance_vjp(flow, carry, stages[i])
        pulls.append(pull)

    def pullback(v: Tensor) -> Tensor:
        cotangents = begin(v, stages)  # the past of the last step has no cotangent
        for pull in reversed(pulls):
            cotangents = pull(cotangents)
        return cotangents[0]

    return carry[0], pullback
