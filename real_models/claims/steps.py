"""The claims about orders and leading terms, measured on a learned flow; see ``real_models.claims.exact``."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pandas as pd
import torch
from torch import Tensor

from analysis.bounds.leading_term import curvature
from analysis.claims import INSTEAD, PRINTED, READING, Case, backsolve, controls, leading, two_terms
from analysis.claims.cases import equality_case, order_case, round_off
from analysis.claims.single_steps import STATED, TABLEAUX_IN_T
from analysis.claims.states import (
    FlowStates,
    by_time,
    estimated_gradient,
    gauss_legendre,
    path_named,
    target_prediction,
    trajectory,
    weighted_sum,
)
from analysis.converged import converged_gradients
from analysis.errors import relative_error
from analysis.experiment import Cell, StateBatch, rows_of
from analysis.gradients import ESTIMATORS
from analysis.losses import Linear
from analysis.reference import EPS, SAFETY, Reference
from analysis.settings import DTYPES, Variant
from analysis.solvers import SOLVERS
from real_models.claims.learned import Learned, LearnedStates, ideal_gradients, on_network, reference_of

T = 0.2
STEPS = {"euler": (16, 24, 32, 48), "midpoint": (8, 12, 16, 24), "rk4": (4, 6, 8, 12)}
FINE = 64  # steps of the truth from T
SINGLE = (*TABLEAUX_IN_T, "midpoint_zeta", "heun_zeta", "rk4_zeta")
EVEN_FROM = 0.1  # the largest zeta at which an even field's leading term is asked for
EVENLY = "within 10 % for zeta <= 0.1, and the relative deviation falls as zeta^2, because y is even in zeta"
LINEARLY = (
    "within 10 % where the network is smooth, and the relative deviation falls as zeta: a learned field is not even "
    "in zeta"
)
AT_ONCE = "on CondOT, from t = 0.2 with up to 48 steps"
RESOLVING = "from a later time on, where the steps resolve the scale on which the network changes"
NOT_EVEN = "at least p + 1, in a learned field that is not even in zeta, so that no more is sure"


@on_network("T4")
def single_step(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Check that slopes of single steps' gradients in 1 - t, and in zeta, are at least p + 1."""
    for path, solver in product(("condot", "cosine"), SINGLE):
        in_t, order = "_zeta" not in solver, SOLVERS[solver].order
        h, error, floor = _single_step_errors(learned, path, solver, seed)
        kind, reading = (
            (PRINTED, "as printed: tableaux in t, slope in 1 - t at least p + 1")
            if in_t
            else (READING, "tableaux in zeta, slope in zeta at least p + 1")
        )
        yield order_case(kind, reading, f"{solver}, network, {path}", h, error, order + 1.0, floor=floor)


@on_network("D4")
def superconverges(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Compare the same slopes with those stated for laws that are even in zeta, and with p + 1."""
    for path, solver in product(("condot", "cosine"), TABLEAUX_IN_T):
        h, error, floor = _single_step_errors(learned, path, solver, seed)
        stated, case = STATED[path][solver], f"{solver}, network, {path}"
        yield order_case(PRINTED, "as printed", case, h, error, stated, floor=floor, rule="near")
        yield order_case(INSTEAD, NOT_EVEN, case, h, error, SOLVERS[solver].order + 1.0, floor=floor)


def _single_step_errors(learned: Learned, path: str, solver: str, seed: int) -> tuple[Tensor, Tensor, float]:
    """Return the step (T,), 1 - t or zeta by the solver's variable, relative errors (T, n) of one step, and a floor."""
    order = SOLVERS[solver].order
    states, rows, truth = _late_states(learned, path, order, seed)
    zetas = learned.window(order)
    losses = Linear(rows.repeat(len(zetas), 1))
    estimate = ESTIMATORS["end_to_end"](states.flow, losses, states.x, states.t, steps=1, solver=solver)
    error = by_time(relative_error(estimate.gradient, truth.gradient), len(zetas))
    h = zetas if "_zeta" in solver else 1 - path_named(path).time_from_zeta(zetas)
    return h, error, 2 * float(truth.error_bound.max()) + SAFETY * EPS


@functools.cache
def _late_states(learned: Learned, path: str, order: int, seed: int) -> tuple[LearnedStates, Tensor, Reference]:
    """Return late states of equal x/alpha, clean data; random unit covectors (n, d); and their ideal pullbacks."""
    times, n = path_named(path).time_from_zeta(learned.window(order)), 2
    states = learned.sample_states(path, torch.cat([torch.ones(1).double(), times]), n, seed)
    clean, schedule = states.x[:n], states.flow.path
    x = (schedule.alpha(times)[:, None, None] * clean / schedule.alpha(1.0)).flatten(0, 1)
    rows = torch.randn(clean.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    rows = torch.nn.functional.normalize(rows)
    reference = ideal_gradients(states.flow, [Linear(rows)] * len(times), x, times, 8)
    return replace(states, x=x, t=states.t[n:]), rows, reference


@on_network("T5")
def control(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Fit the orders of control gradients (adjoints of one solve), and check them by differences of the loss."""

    def adjoints(states: FlowStates, times: Tensor) -> Tensor:
        at = (float(states.t[0]), *times.tolist())
        solved = converged_gradients(states.flow, states.loss, states.x, at, steps=48)
        return torch.stack([part.gradient for part in solved.references[1:]])

    states, name = (
        learned.sample_states("condot", [learned.late], 1, seed),
        f"network, condot, zeta = {learned.resolved:g}",
    )
    yield from controls.control_cases(states, name, ("euler", "midpoint"), adjoints, scale=4)


@on_network("D1")
def remainder(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Compare the remainder's integral (the part without D in front) with the distance of sample and prediction."""
    zetas = torch.tensor([1e-3, 0.03, 0.3], dtype=torch.float64)
    states = learned.sample_states("condot", path_named("condot").time_from_zeta(zetas), 2, seed)
    (before, coarse), (end, fine) = (_remainder_integral(states, nodes) for nodes in (16, 32))
    difference = end - target_prediction(states)(states.x)
    left = 2 * ((fine - coarse).norm(dim=1) + (end - before).norm(dim=1)) / fine.norm(dim=1)
    limit = left + round_off(end.norm(dim=1) / fine.norm(dim=1))
    reading = "the integral form without D in front"
    for zeta, *parts in zip(zetas, *(v.chunk(len(zetas)) for v in (difference, fine, limit)), strict=True):
        yield equality_case(READING, reading, f"remainder at zeta = {float(zeta):g}, network, condot", *parts)


def _remainder_integral(states: FlowStates, nodes: int) -> tuple[Tensor, Tensor]:
    """Return the ends of the trajectories and the integrals of z y'' dz along them, (B, d) each."""
    path, zeta = states.flow.path, states.flow.path.zeta(states.t)
    points, weights = gauss_legendre(nodes)
    z = torch.cat([zeta * points.flip(0)[:, None], torch.zeros(1, len(zeta)).double()])
    times = path.time_from_zeta(torch.cat([zeta[None], z]))
    solved = trajectory(states.flow, states.x, times, 1)[1:]
    values = torch.stack([curvature(states.flow, x, t) for x, t in zip(solved[:-1], times[1:-1], strict=True)])
    return solved[-1], weighted_sum(values, weights.flip(0)[:, None] * zeta * z[:-1])


@on_network("D2")
def leading_term(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Compare the leading term with greedy's true error at small zeta."""
    for kind, reading, power, largest in (
        (READING, EVENLY, leading.POWER, EVEN_FROM),
        (INSTEAD, LINEARLY, 1.0, learned.smooth),
    ):
        zetas, name = largest * leading.HALVINGS, f"network, condot, zeta <= {largest:g}"
        times = path_named("condot").time_from_zeta(zetas)
        states = learned.sample_states("condot", times, 4, seed)
        truth = reference_of(states, times, 8)
        yield from leading.leading_term_cases(kind, reading, name, states, truth, zetas, power)


@on_network("D5")
def end_to_end_order(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Compare the slope in 1/n with the order that each solver declares."""
    for kind, reading, t in ((READING, AT_ONCE, T), (INSTEAD, RESOLVING, learned.late)):
        yield from _end_to_end_cases(kind, reading, learned.sample_states("condot", [t], 2, seed))


def _end_to_end_cases(kind: str, reading: str, states: LearnedStates) -> Iterator[Case]:
    truth = reference_of(states, states.t[:1], FINE)
    for solver, steps in STEPS.items():
        options = {"solver": solver, "memory": "checkpoint"}
        gradients = [estimated_gradient("end_to_end", states, steps=n, **options) for n in steps]
        error = torch.stack([relative_error(g, truth.gradient) for g in gradients])
        h, order = 1 / torch.tensor(steps, dtype=torch.float64), float(SOLVERS[solver].order)
        floor, case = 2 * float(truth.error_bound.max()), f"{solver} in 1/n, network, condot"
        yield order_case(kind, reading, case, h, error, order, floor=floor, rule="near")


@on_network("D6")
def two_term_errors(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Fit the two terms to the lookahead's errors over steps and horizons, in the network's float32."""
    grid = product(("euler", "midpoint"), (1, 2, 4, 8, 16), (0.25, 0.5, 0.75, 0.875, 0.95, 1.0))
    variants = [Variant.of("lookahead", solver=s, steps=n, horizon_fraction=f, memory="checkpoint") for s, n, f in grid]
    states = learned.sample_states("condot", [T], 4, seed)
    truth = reference_of(states, states.t[:1], FINE)
    cell = Cell("", learned.factory, "network", "condot", (T,), 4, dtype="float32", seed=seed)
    named = {"problem": "network", "path": "condot"}
    x = states.x.to(DTYPES["float32"])
    batch = StateBatch(learned.subject("float32"), x, states.t, states.loss, truth, named)
    rows = pd.DataFrame([row for variant in variants for row in rows_of(cell, batch, variant)])
    yield from two_terms.two_term_cases(two_terms.with_zeta(rows), seed)


@on_network("D7")
def inconsistency(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Fit how backsolve's distance from the gradient of the discrete map falls with the steps."""
    states, case = learned.sample_states("condot", [learned.late], 2, seed), f"zeta = {learned.resolved:g}"
    truth = reference_of(states, states.t[:1], FINE)
    yield from backsolve.inconsistency_cases(states, truth, "euler", STEPS["euler"], f"euler, network, condot, {case}")
