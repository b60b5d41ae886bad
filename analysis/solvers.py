r"""One step of an ODE method, whole solves, and their exact discrete adjoints.

Every explicit one-step method on an affine path is a list of stages. Stage i evaluates a readout of the flow,
:math:`f_i = a_i \hat x_1(X_i, t_i) + b_i \hat x_0(X_i, t_i)`, at a state that is a linear combination of the step's
start and of earlier evaluations, and so is the step's end. Only the coefficients differ between methods:

- Runge-Kutta in t: the readout is the velocity, the combinations are the Butcher tableau times the step size.
- DDIM (Song et al. 2021, arXiv 2010.02502), the Euler step in gamma and, equally, in zeta: the readout is
  :math:`\alpha_s \hat x_1 + \sigma_s \hat x_0` itself, regular at both ends of time.

Reversing the linear combinations and pulling back through each evaluation gives the gradient of the discrete map.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis import checks
from analysis.flow import Flow, Pullback
from analysis.paths import AffinePath, Readout, expand

Row = tuple[Tensor | None, ...]


@dataclass(frozen=True)
class Stages:
    """The coefficients of one step, or of n steps along a leading axis; each tensor is (), (B,), (n,) or (n, B).

    ``rows[i]`` combines (x, f_1, ..., f_i) into the state of stage i + 1; the last row gives the end of the step.
    ``None`` stands for a zero.
    """

    times: tuple[Tensor, ...]
    readouts: tuple[Readout, ...]
    rows: tuple[Row, ...]

    def __getitem__(self, i: int) -> Stages:
        rows = tuple(tuple(None if c is None else c[i] for c in row) for row in self.rows)
        return Stages(tuple(t[i] for t in self.times), tuple((a[i], b[i]) for a, b in self.readouts), rows)


@dataclass(frozen=True)
class Tableau:
    """An explicit Butcher tableau: a (lower triangle, row by row), b, c, and the order it has on smooth fields."""

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    c: tuple[float, ...]
    order: int


@dataclass(frozen=True)
class Solver:
    """A method: its declared order and ``coefficients(path, start, end) -> Stages``."""

    order: int
    coefficients: Callable[[AffinePath, Tensor, Tensor], Stages]


def runge_kutta(tableau: Tableau) -> Solver:
    """Make the solver that applies a tableau in t."""

    def coefficients(path: AffinePath, start: Tensor, end: Tensor) -> Stages:
        h = end - start
        # The last stage of many tableaux sits at the end itself: take that time exactly, not up to round-off.
        times = tuple(end if c == 1 else start + c * h for c in tableau.c)
        rows = [(torch.ones_like(h), *(None if a == 0 else a * h for a in row)) for row in (*tableau.a, tableau.b)]
        return Stages(times, tuple(path.readout("velocity", t) for t in times), tuple(rows))

    return Solver(tableau.order, coefficients)


def ddim_coefficients(path: AffinePath, start: Tensor, end: Tensor) -> Stages:
    """Return the stages of DDIM: one evaluation, which is the new state."""
    return Stages(
        (start,),
        ((path.alpha(end), path.sigma(end)),),
        ((torch.ones_like(start),), (None, torch.ones_like(end))),
    )


TABLEAUX = {
    "euler": Tableau(((),), (1.0,), (0.0,), 1),
    "midpoint": Tableau(((), (0.5,)), (0.0, 1.0), (0.0, 0.5), 2),
    "heun": Tableau(((), (1.0,)), (0.5, 0.5), (0.0, 1.0), 2),
    "rk4": Tableau(((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), (0.0, 0.5, 0.5, 1.0), 4),
}
SOLVERS: dict[str, Solver] = {name: runge_kutta(tableau) for name, tableau in TABLEAUX.items()}
SOLVERS["ddim"] = Solver(1, ddim_coefficients)


def uniform_grid(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Return times (steps + 1, ...) equally spaced from ``start`` to ``end``, both ends exact."""
    start, end = torch.broadcast_tensors(start, end)
    fraction = torch.linspace(0, 1, steps + 1, dtype=start.dtype, device=start.device)
    grid = start + fraction.reshape(-1, *[1] * start.ndim) * (end - start)
    grid[-1] = end
    return grid


def plan(solver: str, path: AffinePath, grid: Tensor) -> Stages:
    """Return the stages of all steps on a grid of times (n + 1,) or (n + 1, B).

    Raises ``ValueError`` for an unknown solver (the message lists the known ones), and where a stage falls on a time
    at which the path's velocity is infinite.
    """
    stages = SOLVERS[checks.known("solver", solver, SOLVERS)].coefficients(path, grid[:-1], grid[1:])
    for time, (a, b) in zip(stages.times, stages.readouts, strict=True):
        bad = ~torch.isfinite(a + b)
        if bool(bad.any()):
            raise ValueError(
                f"solver {solver!r} evaluates the velocity at t = {time[bad].max():.6g}, where it is infinite on "
                f"{path}; use ddim, or a horizon short of it"
            )
    return stages


def _combine(row: Row, terms: Sequence[Tensor]) -> Tensor:
    parts = [expand(c, v) * v for c, v in zip(row, terms, strict=True) if c is not None]
    return functools.reduce(torch.add, parts)


def step(flow: Flow, x: Tensor, stages: Stages) -> Tensor:
    """Return the state after one step from x (B, *event)."""
    terms = [x]
    for time, readout, row in zip(stages.times, stages.readouts, stages.rows, strict=False):
        terms.append(flow.predict(_combine(row, terms), time, readout))
    return _combine(stages.rows[-1], terms)


def step_vjp(flow: Flow, x: Tensor, stages: Stages) -> tuple[Tensor, Pullback]:
    """Return the state after one step and the pullback of the step map."""
    terms, pulls = [x], []
    for time, readout, row in zip(stages.times, stages.readouts, stages.rows, strict=False):
        value, pull = flow.predict_vjp(_combine(row, terms), time, readout)
        terms.append(value)
        pulls.append(pull)

    def pullback(v: Tensor) -> Tensor:
        adjoints = [_scaled(c, v) for c in stages.rows[-1]]
        for i in reversed(range(len(pulls))):
            if (adjoint := adjoints[i + 1]) is not None:
                state = pulls[i](adjoint)
                adjoints[: i + 1] = [
                    _add(a, _scaled(c, state)) for a, c in zip(adjoints[: i + 1], stages.rows[i], strict=True)
                ]
        assert adjoints[0] is not None
        return adjoints[0]

    return _combine(stages.rows[-1], terms), pullback


def _scaled(coefficient: Tensor | None, v: Tensor) -> Tensor | None:
    return None if coefficient is None else expand(coefficient, v) * v


def _add(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


def solve(flow: Flow, x: Tensor, stages: Stages) -> Tensor:
    """Return the state after all steps of a plan."""
    for i in range(len(stages.times[0])):
        x = step(flow, x, stages[i])
    return x


def solve_vjp(flow: Flow, x: Tensor, stages: Stages) -> tuple[Tensor, Pullback]:
    """Return the state after all steps and the pullback of the discrete map, each step's in turn."""
    pulls = []
    for i in range(len(stages.times[0])):
        x, pull = step_vjp(flow, x, stages[i])
        pulls.append(pull)

    def pullback(v: Tensor) -> Tensor:
        for pull in reversed(pulls):
            v = pull(v)
        return v

    return x, pullback
