"""The claims about orders and leading terms, measured on a learned flow; see ``real_models.claims.exact``."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pandas as pd
import torch
from torch import Tensor

from analysis.bounds.leading_term import curvature, leading_term
from analysis.claims import INSTEAD, PRINTED, READING, Case
from analysis.converged import along
from analysis.errors import relative_error
from analysis.experiment import Cell, rows_of
from analysis.experiment import Draw as Drawn
from analysis.losses import Linear
from analysis.reference import Reference
from analysis.settings import DTYPES, Variant, resolve
from analysis.solvers import SOLVERS
from real_models.claims.exact import RESOLVED, SMALL, WINDOWS, Learned, ideal, on_network, truth_of
from toy_models.claims import backsolve, common, controls, exact_statements, greedy_error, horizons, orders
from toy_models.claims.common import Draw

T = 0.2
STEPS = {"euler": (16, 24, 32, 48), "midpoint": (8, 12, 16, 24), "rk4": (4, 6, 8, 12)}
FINE = 64  # steps of the truth from T
SINGLE = ("euler", "midpoint", "heun", "rk4", "midpoint_zeta", "heun_zeta", "rk4_zeta")
LINEARLY = (
    "within 10 % for zeta <= 1e-4, below the network's own scale, and the relative deviation falls as zeta: a learned "
    "field is not even in zeta"
)
AT_ONCE = "as printed, from t = 0.2 with up to 48 steps"
RESOLVING = "from zeta = 5e-4 on, where the steps resolve the scale on which the network changes"
NOT_EVEN = "at least p + 1, in a learned field that is not even in zeta, so that no more is sure"


@on_network("T4")
def single_step(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Hold slopes of single steps' gradients in 1 - t, and in zeta, to at least p + 1."""
    for path, solver in product(("condot", "cosine"), SINGLE):
        in_t, order = "_zeta" not in solver, SOLVERS[solver].order
        h, error, floor = _single(learned, path, solver, seed)
        kind, reading = (
            (PRINTED, "as printed: tableaux in t, slope in 1 - t at least p + 1")
            if in_t
            else (READING, "tableaux in zeta, slope in zeta at least p + 1")
        )
        yield common.order(kind, reading, f"{solver}, network, {path}", h, error, order + 1.0, floor=floor)


@on_network("D4")
def superconverges(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Hold the same slopes to the numbers stated for laws that are even in zeta, and to p + 1."""
    for path, solver in product(("condot", "cosine"), orders.IN_T):
        h, error, floor = _single(learned, path, solver, seed)
        stated, case = orders.STATED[path][solver], f"{solver}, network, {path}"
        yield common.order(PRINTED, "as printed", case, h, error, stated, floor=floor, rule="near")
        yield common.order(INSTEAD, NOT_EVEN, case, h, error, SOLVERS[solver].order + 1.0, floor=floor)


def _single(learned: Learned, path: str, solver: str, seed: int) -> tuple[Tensor, Tensor, float]:
    """Return 1 - t or, for a solver in zeta, zeta (T,), relative errors (T, n) of one step's gradient, and a floor."""
    order = SOLVERS[solver].order
    drawn, rows, truth = _late(learned, path, order, seed)
    losses = Linear(rows.repeat(len(WINDOWS[order]), 1))
    found = common.ESTIMATORS["end_to_end"](drawn.flow, losses, drawn.x, drawn.t, steps=1, solver=solver).gradient
    error = common.by_time(relative_error(found, truth.gradient), len(WINDOWS[order]))
    zetas = WINDOWS[order].double()
    h = zetas if "_zeta" in solver else 1 - common.path_named(path).time_from_zeta(zetas)
    return h, error, 2 * float(truth.error_bound.max()) + common.SAFETY * torch.finfo(torch.float64).eps


@functools.cache
def _late(learned: Learned, path: str, order: int, seed: int) -> tuple[Draw, Tensor, Reference]:
    """Return late states of equal x/alpha, clean images; random unit covectors (n, d); and their ideal pullbacks."""
    times, n = common.path_named(path).time_from_zeta(WINDOWS[order].double()), 2
    drawn = learned.draw(path, torch.cat([torch.ones(1).double(), times]), n, seed)
    clean, schedule = drawn.x[:n], drawn.flow.path
    x = (schedule.alpha(times)[:, None, None] * clean / schedule.alpha(1.0)).flatten(0, 1)
    rows = torch.randn(clean.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    rows = torch.nn.functional.normalize(rows)
    found = ideal(drawn.flow, [Linear(rows)] * len(times), x, times, 8)
    reference = Reference(found.gradient, found.endpoint, "converged", found.error_bound)
    return replace(drawn, x=x, t=drawn.t[n:]), rows, reference


@on_network("T5")
def control(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Fit the orders of control gradients, and difference the controlled loss; the adjoints are those of one solve."""

    def adjoints(drawn: Draw, times: Tensor) -> Tensor:
        found = along(drawn.flow, drawn.loss, drawn.x, (float(drawn.t[0]), *times.tolist()), steps=48)
        return found.gradient[1:]

    drawn = learned.draw("condot", [RESOLVED], 1, seed)
    yield from controls.control_cases(drawn, "network, condot, zeta = 5e-4", ("euler", "midpoint"), adjoints, scale=4)


@on_network("D1")
def remainder(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Hold the remainder's integral, the part without D in front, to the distance of sample and prediction."""
    zetas = torch.tensor([1e-3, 0.03, 0.3], dtype=torch.float64)
    drawn = learned.draw("condot", common.path_named("condot").time_from_zeta(zetas), 2, seed)
    (before, coarse), (end, fine) = (_integral(drawn, nodes) for nodes in (16, 32))
    found = end - exact_statements.target(drawn)(drawn.x)
    left = 2 * ((fine - coarse).norm(dim=1) + (end - before).norm(dim=1)) / fine.norm(dim=1)
    limit = left + common.round_off(end.norm(dim=1) / fine.norm(dim=1))
    reading = "as printed, in the integral form without D in front"
    for zeta, *parts in zip(zetas, *(v.chunk(len(zetas)) for v in (found, fine, limit)), strict=True):
        yield common.equal(PRINTED, reading, f"remainder at zeta = {float(zeta):g}, network, condot", *parts)


def _integral(drawn: Draw, nodes: int) -> tuple[Tensor, Tensor]:
    """Return the ends of the trajectories and the integrals of z y'' dz along them, (B, d) each."""
    path, zeta = drawn.flow.path, drawn.flow.path.zeta(drawn.t)
    points, weights = common.gauss(nodes)
    z = torch.cat([zeta * points.flip(0)[:, None], torch.zeros(1, len(zeta)).double()])
    times = path.time_from_zeta(torch.cat([zeta[None], z]))
    found = common.trajectory(drawn.flow, drawn.x, times, 1)[1:]
    bends = torch.stack([curvature(drawn.flow, x, t) for x, t in zip(found[:-1], times[1:-1], strict=True)])
    return found[-1], common.stacked(bends, weights.flip(0)[:, None] * zeta * z[:-1])


@on_network("D2")
def leading(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Hold the leading term against greedy's true error at small zeta."""
    for kind, reading, power, first in (
        (PRINTED, greedy_error.LEADING, 2.0, greedy_error.SMALL),
        (INSTEAD, LINEARLY, 1.0, SMALL),
    ):
        zetas = first / 2.0 ** torch.arange(4, dtype=torch.float64)
        deviation, floor = _deviation(learned, zetas, seed)
        largest = float(deviation.median(1).values.max())
        yield common.certain(kind, reading, "deviation, network, condot", largest, greedy_error.WITHIN)
        yield common.order(kind, reading, "network, condot", zetas, deviation, power, floor=floor)


def _deviation(learned: Learned, zetas: Tensor, seed: int) -> tuple[Tensor, float]:
    """Return how far the leading term is from greedy's error, relative to that, (T, n), and a floor."""
    times = common.path_named("condot").time_from_zeta(zetas)
    drawn = learned.draw("condot", times, 4, seed)
    truth = truth_of(drawn, times, 8)
    error = truth.gradient - common.gradient("greedy", drawn)
    estimate = leading_term(drawn.flow, drawn.loss, drawn.x, drawn.t)
    deviation = common.by_time(relative_error(estimate, error), len(times))
    return deviation, float((truth.error_bound * truth.gradient.norm(dim=1) / error.norm(dim=1)).max())


@on_network("D5")
def end_to_end_order(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Hold the slope in 1/n to the order that each solver declares."""
    for kind, reading, t in ((PRINTED, AT_ONCE, T), (INSTEAD, RESOLVING, RESOLVED)):
        yield from _orders(kind, reading, learned.draw("condot", [t], 2, seed))


def _orders(kind: str, reading: str, drawn: Draw) -> Iterator[Case]:
    truth = truth_of(drawn, drawn.t[:1], FINE)
    for solver, steps in STEPS.items():
        options = {"solver": solver, "memory": "checkpoint"}
        found = [common.gradient("end_to_end", drawn, steps=n, **options) for n in steps]
        error = torch.stack([relative_error(g, truth.gradient) for g in found])
        h, order = 1 / torch.tensor(steps, dtype=torch.float64), float(SOLVERS[solver].order)
        floor, case = 2 * float(truth.error_bound.max()), f"{solver} in 1/n, network, condot"
        yield common.order(kind, reading, case, h, error, order, floor=floor, rule="near")


@on_network("D6")
def two_terms(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Fit the two terms to the lookahead's errors over steps and horizons, in the network's float32."""
    grid = product(("euler", "midpoint"), (1, 2, 4, 8, 16), (0.25, 0.5, 0.75, 0.875, 0.95, 1.0))
    settings = [Variant.of("lookahead", solver=s, steps=n, horizon_fraction=f, memory="checkpoint") for s, n, f in grid]
    drawn = learned.draw("condot", [T], 4, seed)
    truth = truth_of(drawn, drawn.t[:1], FINE)
    subject = resolve(learned.factory)(learned.problem, "condot", "float32", "cpu")
    cell = Cell("", learned.factory, "network", "condot", (T,), 4, dtype="float32", seed=seed)
    reference = Reference(truth.gradient, truth.endpoint, "converged", truth.error_bound)
    named = {"problem": "network", "path": "condot"}
    part = Drawn(subject, drawn.x.to(DTYPES["float32"]), drawn.t, drawn.loss, reference, named)
    rows = [row for setting in settings for row in rows_of(cell, part, setting)]
    yield from horizons.two_term_cases(pd.DataFrame(rows), seed)


@on_network("D7")
def inconsistency(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Fit how backsolve's distance from the gradient of the discrete map falls with the steps."""
    drawn = learned.draw("condot", [RESOLVED], 2, seed)
    truth = truth_of(drawn, drawn.t[:1], FINE)
    reference = Reference(truth.gradient, truth.endpoint, "converged", truth.error_bound)
    yield from backsolve.falling(drawn, reference, "euler", list(STEPS["euler"]), "euler, network, condot, zeta = 5e-4")
