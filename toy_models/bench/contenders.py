"""The contenders of the bench: the same gradients by this package, torchdiffeq and diffrax."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from analysis import gradients, solvers
from analysis.experiment import Cell
from analysis.flow import Pullback
from analysis.losses import HalfSquaredDistance
from analysis.paths import CondOT
from analysis.plan import StepPlan
from analysis.settings import DTYPES
from analysis.solvers.tableaux import Tableau
from toy_models.mixtures import fused_solve
from toy_models.mixtures.gaussian import GaussianMixture, MixtureFlow

PEERS = ("torchdiffeq", "diffrax", "jax")
SIZES = ((64, 2, 4), (256, 8, 8), (512, 64, 10))  # states, dimension, components
STEPS = tuple(2**k for k in range(7))
T, HORIZONS = 0.2, tuple(round(0.2 + 0.1 * k, 1) for k in range(9))
SURFACE_SOLVER, SINGLE_SOLVER, SINGLE_STEPS = "euler", "rk4", 64
BASE, BASE_STEPS = (256, 8, 8), 64  # the problem of which one size is scaled at a time, end to end:
SCALING = {
    "samples": (16, 64, 256, 1024, 4096),
    "steps": (4, 16, 64, 256, 1024),
    "components": (1, 4, 16, 64, 256),
}
LARGE, LARGE_STEPS = 10**5, 16  # from this B d K on, the steps of the surface, for every contender alike,
SLOW, SLOW_STEPS = ("torchdiffeq_adjoint", "diffrax_backsolve"), 8  # and of those that compute another gradient
THREE_EIGHTHS = Tableau(
    ((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)), (1 / 8, 3 / 8, 3 / 8, 1 / 8), (0.0, 1 / 3, 2 / 3, 1.0), 4
)
THREADS = 1  # of every contender: on a shared machine, threads that wait for each other would swamp small tensors


@dataclass(frozen=True)
class Work:
    """One workload: a flow, a loss, states at time T, and the steps, horizons and solver of its cells."""

    flow: MixtureFlow
    loss: HalfSquaredDistance
    x: Tensor
    steps: tuple[int, ...]
    horizons: tuple[float, ...]
    solver: str

    @property
    def pairs(self) -> int:
        """The number of evaluations with their VJP per state; cells with horizon T share one gradient."""
        ahead = [s for s in self.horizons if s > T]
        stages = solvers.SOLVERS[self.solver].evaluations * sum(self.steps) * len(ahead)
        return stages + len(self.steps) * sum(s < 1 for s in ahead) + (len(ahead) < len(self.horizons))

    @property
    def operations(self) -> float:
        """Floating-point operations of the matrix products: four rotations, of 2 B d K d each, per pair."""
        k, d = self.flow.basis.means.shape
        return self.pairs * 4.0 * 2 * len(self.x) * d * k * d


Runner = Callable[[], list[Any]]
Build = Callable[[Work], Runner]


def work(cell: Cell) -> Work:
    """Return a cell's workload; ``extra`` holds its size (B, d, K), its kind and its largest number of steps."""
    extra = cell.extra_dict
    batch, d, k = extra["size"]
    generator = cell.generator()

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    basis = torch.linalg.qr(randn(k, d, d))[0]
    covariances = (basis * torch.logspace(-1, 0, d, dtype=torch.float64)) @ basis.mT
    weights = 0.5 + torch.rand(k, dtype=torch.float64, generator=generator)
    mixture = GaussianMixture(weights / weights.sum(), 1.5 * randn(k, d), (covariances + covariances.mT) / 2)
    x = T * mixture.sample(batch, generator) + (1 - T) * randn(batch, d)
    target, dtype = mixture.sample(batch, generator), DTYPES[cell.dtype]
    flow = MixtureFlow(mixture, CondOT(), dtype, cell.device)
    loss = HalfSquaredDistance(target.to(cell.device, dtype))
    x = x.to(cell.device, dtype)
    if extra["workload"] == "surface":
        return Work(flow, loss, x, tuple(n for n in STEPS if n <= extra["steps_max"]), HORIZONS, SURFACE_SOLVER)
    return Work(flow, loss, x, (extra["steps_max"],), (1.0,), SINGLE_SOLVER)


def ours_surface(job: Work) -> Runner:
    """Return the run that computes all cells in one call."""

    def run() -> list[Tensor]:
        args = (job.flow, job.loss, job.x, T, job.steps, job.horizons)
        return list(gradients.lookahead_surface(*args, solver=job.solver).gradient.flatten(0, 1))

    return run


def ours_cells(job: Work) -> Runner:
    """Return the run that makes one call per cell."""

    def run() -> list[Tensor]:
        call = gradients.ESTIMATORS["lookahead"]
        args = (job.flow, job.loss, job.x, T)
        cells = [(n, s) for n in job.steps for s in job.horizons]
        return [call(*args, steps=n, horizon=s, solver=job.solver).gradient for n, s in cells]

    return run


class _MatrixProducts(MixtureFlow):
    """The same flow without compiled loops."""

    def solve_vjp(self, x: Tensor, plans: Sequence[StepPlan]) -> tuple[Tensor, Pullback] | None:
        """Return what matrix products give."""
        return fused_solve.solve_vjp(self.basis, self.path, x, plans)


def with_torch(build: Build) -> Build:
    """Return the builder of the same run without compiled loops, as where numba is not installed."""

    def without(job: Work) -> Runner:
        flow = job.flow
        return build(replace(job, flow=_MatrixProducts(flow.mixture, flow.path, flow.dtype, flow.device)))

    return without


def ours_single(job: Work) -> Runner:
    """Return the run of one end-to-end gradient."""
    (steps,) = job.steps

    def run() -> list[Tensor]:
        return [gradients.end_to_end(job.flow, job.loss, job.x, T, steps=steps, solver=job.solver).gradient]

    return run


class Velocity(nn.Module):
    """The mixture's readouts along CondOT in plain torch, whitened, with the diagonal factors folded into the bases."""

    def __init__(self, flow: MixtureFlow) -> None:
        super().__init__()
        self.into, self.means, self.variances = flow.basis.into, flow.basis.means, flow.basis.variances
        self.centres, self.log_weights = flow.basis.centres, flow.basis.log_weights

    def readout(self, x: Tensor, t: Tensor, c: Tensor | float) -> Tensor:
        """Return the target prediction (..., d) for c = 0, and the velocity for c = t - 1."""
        marginal = t**2 * self.variances + (1 - t) ** 2
        root = marginal.rsqrt()
        gain = (t * self.variances + c) * root
        y = (x @ (self.into * root.flatten())).unflatten(-1, self.means.shape) - t * root * self.means
        r = (self.log_weights - (y.square().sum(-1) + marginal.log().sum(-1)) / 2).softmax(-1)
        return r @ self.centres + (r[..., None] * y).flatten(-2) @ (self.into * gain.flatten()).T

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the velocity, with the argument order of torchdiffeq."""
        return self.readout(x, t, t - 1)


def torchdiffeq(adjoint: bool) -> Build:
    """Return the builder of one odeint per cell on its fixed grid, differentiated by autograd or by odeint_adjoint."""

    def build(job: Work) -> Runner:
        from torchdiffeq import odeint, odeint_adjoint

        field = Velocity(job.flow)
        solve, more = (odeint_adjoint, {"adjoint_params": ()}) if adjoint else (odeint, {})
        times = {s: job.x.new_tensor(s) for s in job.horizons}
        grids = {
            (n, s): torch.linspace(T, s, n + 1, dtype=job.x.dtype, device=job.x.device)
            for n in job.steps
            for s in job.horizons
        }

        def gradient(n: int, s: float) -> Tensor:
            x, grid = job.x.detach().requires_grad_(), grids[n, s]
            end = x
            if s > T:
                options = {"grid_constructor": lambda f, y, t: grid if t[0] < t[-1] else grid.flip(0)}
                end = solve(field, x, grid[[0, -1]], method=job.solver, options=options, **more)[-1]
            if s < 1:
                end = field.readout(end, times[s], 0.0)
            return torch.autograd.grad(job.loss(end).sum(), x)[0]

        return lambda: [gradient(n, s) for n in job.steps for s in job.horizons]

    return build


def diffrax(adjoint: str) -> Build:
    """Return the builder of one jitted solve per cell; cells of equal step count share its compilation."""

    def build(job: Work) -> Runner:
        from toy_models.bench import jax_peers

        target = job.loss.target
        return jax_peers.contender(job.flow, target, job.x, T, job.steps, job.horizons, job.solver, adjoint)

    return build


_PEERS: dict[str, Build] = {
    "torchdiffeq": torchdiffeq(adjoint=False),
    "torchdiffeq_adjoint": torchdiffeq(adjoint=True),
    "diffrax": diffrax("recursive"),
    "diffrax_stored": diffrax("stored"),
    "diffrax_backsolve": diffrax("backsolve"),
}
CONTENDERS: dict[str, dict[str, Build]] = {
    "surface": {
        "ours": ours_surface,
        "ours_torch": with_torch(ours_surface),
        "ours_cells": ours_cells,
        **_PEERS,
    },
    "end_to_end": {"ours": ours_single, "ours_torch": with_torch(ours_single), **_PEERS},
    **{size: {"ours": ours_single, "ours_torch": with_torch(ours_single)} for size in SCALING},
}
