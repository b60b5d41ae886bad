r"""ODE methods as tables of coefficients: ``SOLVERS`` by name, and the plan of their steps on a grid of times.

Every explicit method on an affine path is a list of stages. Stage i evaluates a readout of the flow,
:math:`f_i = a_i \hat x_1(X_i, t_i) + b_i \hat x_0(X_i, t_i)`, at a state that is a linear combination of the step's
start and of earlier evaluations; so is the step's end. Methods differ only in the coefficients:

- a Runge-Kutta tableau in a coordinate c with dy/dc = f, x = k y (``analysis.solvers.coordinates``): stages at
  :math:`X_i = k_i (x/k_0 + h \sum_j a_{ij} f_j)`; named ``rk4`` in t, ``rk4_zeta``, ``rk4_gamma``, ``rk4_logsnr``;
- DDIM (Song et al. 2021, arXiv 2010.02502), Euler in gamma and, equally, in zeta: the readout
  :math:`\alpha_s \hat x_1 + \sigma_s \hat x_0` itself, regular at both ends of time;
- multistep methods also combine evaluations of the previous step: Adams-Bashforth 2 in t, and DPM-Solver++(2M)
  (Lu et al. 2022, arXiv 2211.01095).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from analysis import checks
from analysis.paths import AffinePath, CondOT, Cosine, LinearVP, Polynomial, VarianceExploding
from analysis.plan import StepPlan
from analysis.solvers.coordinates import COORDINATES
from analysis.solvers.tableaux import TABLEAUX, Tableau

MOST_REUSED = 2**12  # times of a plan that is kept


@dataclass(frozen=True)
class Solver:
    """A method: its declared order, evaluations per step, and ``coefficients(path, grid (n + 1, ...)) -> StepPlan``."""

    order: int
    evaluations: int
    coefficients: Callable[[AffinePath, Tensor], StepPlan]


def runge_kutta(tableau: Tableau, coordinate: str) -> Solver:
    """Make the solver that applies a tableau in a coordinate."""
    c = COORDINATES[coordinate]

    def coefficients(path: AffinePath, grid: Tensor) -> StepPlan:
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
        return StepPlan(tuple(times), tuple(c.readout(path, t) for t in times), tuple(rows))

    return Solver(tableau.order, len(tableau.b), coefficients)


def _ddim(path: AffinePath, grid: Tensor) -> StepPlan:
    one = torch.ones_like(grid[:-1])
    readout = path.combination(path.alpha(grid[1:]), path.sigma(grid[1:]), grid[:-1])
    return StepPlan((grid[:-1],), (readout,), ((one,), (None, one)))


def _adams_bashforth_2(path: AffinePath, grid: Tensor) -> StepPlan:
    start, h, one = grid[:-1], grid.diff(dim=0), torch.ones_like(grid[:-1])
    ratio = torch.zeros_like(h)  # the first step has no past, and is Euler's
    ratio[1:] = torch.where(h[1:] == 0, 0.0, h[1:] / h[:-1])  # a sample whose horizon is its t takes no steps
    return StepPlan(
        (start,), (path.readout("velocity", start),), ((one, None), (one, -h * ratio / 2, h * (1 + ratio / 2))), 1
    )


def _dpm_solver_pp_2m(path: AffinePath, grid: Tensor) -> StepPlan:
    start, end, one = grid[:-1], grid[1:], torch.ones_like(grid[:-1])
    h = path.log_snr(end) - path.log_snr(start)
    ratio = torch.zeros_like(h)  # h / (2 h_before); first order at the first step, and at the end where h is infinite
    ratio[1:] = torch.where(torch.isfinite(h[1:]) & (h[1:] != 0), h[1:] / (2 * h[:-1]), 0.0)
    shrink = path.sigma(end) / path.sigma(start)
    gain = path.alpha(end) - shrink * path.alpha(start)
    return StepPlan(
        (start,), (path.readout("target", start),), ((one, None), (shrink, -gain * ratio, gain * (1 + ratio))), 1
    )


SOLVERS: checks.Registry[Solver] = checks.Registry(
    "solver",
    {
        name + ("" if coordinate == "t" else f"_{coordinate}"): runge_kutta(tableau, coordinate)
        for coordinate in COORDINATES
        for name, tableau in TABLEAUX.items()
    },
)
SOLVERS |= {
    "ddim": Solver(1, 1, _ddim),
    "euler_gamma": Solver(1, 1, _ddim),  # equal, and regular at sigma = 0
    "ab2": Solver(2, 1, _adams_bashforth_2),
    "dpmpp_2m": Solver(2, 1, _dpm_solver_pp_2m),
}


def plan(solver: str, path: AffinePath, grid: Tensor, repeat: int = 1) -> StepPlan:
    """Plan all steps of a solver on a grid of times (n + 1,) or (n + 1, B), for ``repeat`` samples per time.

    Returns
    -------
    StepPlan
        Of n steps.

    Raises
    ------
    ValueError
        For an unknown solver (the message lists the known ones), fewer than two times, and where a coefficient is
        infinite: gamma at sigma = 0, zeta at alpha = 0.
    """
    method = SOLVERS[checks.known("solver", solver, SOLVERS)]
    if not checks.door_passed():
        grid = checks.schedule_times(grid, "grid")
        if not grid.ndim or len(grid) < 2:
            raise ValueError(f"grid must hold two times or more, got shape {tuple(grid.shape)}")
    if not _reusable(checks.path(path), grid):
        return _planned(solver, method, path, grid, repeat)
    return _reused(solver, method, path, tuple(grid.shape), grid.numpy().tobytes(), repeat)


def _planned(solver: str, method: Solver, path: AffinePath, grid: Tensor, repeat: int) -> StepPlan:
    planned = method.coefficients(path, grid)
    used = [c for row in planned.rows for c in row if c is not None]
    used += [c for readout in planned.readouts for c in (readout.target, readout.minus_score)]
    bad = functools.reduce(torch.logical_or, [~torch.isfinite(c) for c in used])
    if bool(bad.any()):
        raise ValueError(
            f"solver {solver!r} has infinite coefficients on {path} in a step that ends at t = "
            f"{float(grid[1:].expand(bad.shape)[bad].max()):.6g}; use ddim, a solver in zeta, or a horizon short of it"
        )
    return replace(planned, repeat=repeat)


def _reusable(path: AffinePath, grid: Tensor) -> bool:
    """Return whether a plan may be kept: of few times, a path without state, and plain tensors."""
    return (
        type(path) in (CondOT, Cosine, LinearVP, Polynomial, VarianceExploding)
        and (type(grid), grid.device.type, grid.dtype) == (Tensor, "cpu", torch.float64)
        and not grid.requires_grad
        and grid.numel() <= MOST_REUSED
        and not torch.is_inference_mode_enabled()
        and unpack_dual(grid).tangent is None
        and not torch._C._len_torch_dispatch_stack()  # a mode may count bytes
        and not torch._C._are_functorch_transforms_active()
    )


@functools.lru_cache(maxsize=128)
def _reused(
    solver: str, method: Solver, path: AffinePath, shape: tuple[int, ...], times: bytes, repeat: int
) -> StepPlan:
    grid = torch.frombuffer(bytearray(times), dtype=torch.float64).reshape(shape)
    with torch.no_grad():
        return replace(_planned(solver, method, path, grid, repeat), reused=True)


def projection(path: AffinePath, time: Tensor, repeat: int = 1) -> StepPlan:
    """Return the plan of the step that ends at the target prediction at ``time``, () or (B,)."""
    if not _reusable(path, time):
        return replace(_projected(path, time[None]), repeat=repeat)
    return _reused("projection", Solver(1, 1, _projected), path, (1, *time.shape), time.numpy().tobytes(), repeat)


def _projected(path: AffinePath, time: Tensor) -> StepPlan:
    one = torch.ones_like(time)
    return StepPlan((time,), (path.readout("target", time),), ((one,), (None, one)))
