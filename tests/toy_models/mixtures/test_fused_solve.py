"""Whole solves of a mixture, by matrix products and by compiled loops, against the loop over single evaluations."""

import math

import pytest
import torch

from analysis import gradients, solvers
from analysis.cost import Cost, MeteredFlow
from analysis.losses import HalfSquaredDistance
from analysis.paths import CondOT, Cosine
from analysis.solvers import checkpointing
from tests.support.problems import f64, randn, random_mixture, states
from toy_models import MixtureFlow
from toy_models.mixtures import compiled_solve, fused_matrices, fused_solve

SOLVERS = ["euler", "midpoint", "heun", "rk3", "rk4", "dopri5", "ddim", "euler_zeta", "rk4_zeta"]
STEPS, HORIZONS, SAMPLES = (3, 16, 7, 16), f64([0.45, 0.8, 1.0]), 37
T = f64(0.3)


@pytest.fixture(params=["products", "compiled"], autouse=True)
def way(request, monkeypatch):
    """Both ways, each without the other."""
    if request.param == "compiled":
        pytest.importorskip("numba")
        monkeypatch.setattr(fused_solve, "LEAST", math.inf)
        monkeypatch.setattr(compiled_solve, "LEAST", 0)
    else:
        monkeypatch.setattr(compiled_solve, "LEAST", math.inf)
    return request.param


def problem(path=None, k=4, d=5, dtype=torch.float64, samples=SAMPLES):
    """Return a flow, states (plans, horizons * samples, d) and cotangents of the same shape."""
    mixture, path = random_mixture(k, d, 50.0), path or CondOT()
    x = states(mixture, path, T.expand(samples), samples).repeat(len(HORIZONS), 1)
    x = x + 0.1 * randn(len(STEPS), len(x), d, seed=3)
    return MixtureFlow(mixture, path, dtype), x.to(dtype), randn(*x.shape, seed=4).to(dtype)


def plans(flow, solver, samples=SAMPLES):
    start = T.expand(len(HORIZONS))
    return [solvers.plan(solver, flow.path, solvers.uniform_grid(start, HORIZONS, n), samples) for n in STEPS]


def difference(found, expected):
    return float(((found - expected).norm(dim=-1) / expected.norm(dim=-1)).max())


def both(flow, x, v, stages):
    """Return ends and products of the flow's own solve, and those of the loop."""
    end, pull = flow.solve_vjp(x, stages)
    loops = [solvers.solve_vjp(flow, state, p) for state, p in zip(x, stages, strict=True)]
    expected = [torch.stack([end for end, _ in loops]), torch.stack([p(w) for (_, p), w in zip(loops, v, strict=True)])]
    return [end, pull(v)], expected


@pytest.mark.parametrize("path", [CondOT(), Cosine()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("solver", SOLVERS)
def test_whole_solves_agree_with_the_loop(solver, path):
    flow, x, v = problem(path)
    for found, expected in zip(*both(flow, x, v, plans(flow, solver)), strict=True):
        assert difference(found, expected) <= 1e-12


@pytest.mark.parametrize(("k", "d"), [(1, 1), (1, 6), (6, 1), (3, 37), (9, 2)])
def test_any_number_of_components_and_dimensions(k, d):
    flow, x, v = problem(k=k, d=d)
    for found, expected in zip(*both(flow, x, v, plans(flow, "rk4")), strict=True):
        assert difference(found, expected) <= 1e-12


@pytest.mark.parametrize("solver", ["euler", "rk4"])
@pytest.mark.parametrize("batch", [1, 4 * 6 * 10, 4 * 6 * SAMPLES * 5])
def test_neither_lanes_nor_parts_change_the_result(monkeypatch, solver, batch):
    flow, x, v = problem()
    expected = both(flow, x, v, plans(flow, solver))[1]
    monkeypatch.setattr(fused_solve, "CPU_BATCH", batch)
    monkeypatch.setattr(fused_matrices, "MOST_CACHED", 0)
    for found, wanted in zip(both(flow, x, v, plans(flow, solver))[0], expected, strict=True):
        assert difference(found, wanted) <= 1e-12


def test_float32_agrees_to_its_round_off():
    flow, x, v = problem(dtype=torch.float32)
    for found, expected in zip(*both(flow, x, v, plans(flow, "rk4")), strict=True):
        assert found.dtype == torch.float32
        assert difference(found, expected) <= 1e-4


def test_components_that_are_far_away_do_no_harm():
    flow, x, v = problem(k=6)
    for found, expected in zip(*both(flow, 40 * x, v, plans(flow, "euler")), strict=True):
        assert difference(found, expected) <= 1e-11  # round-off is that of states forty times their ends


def test_a_pullback_can_be_used_again():
    flow, x, v = problem()
    _, pull = flow.solve_vjp(x, plans(flow, "midpoint"))
    first = pull(v)
    assert torch.equal(pull(v), first)
    assert difference(pull(2 * v), 2 * first) <= 1e-14


def test_the_metered_cost_is_that_of_the_loop():
    flow, x, v = problem()
    stages, found = plans(flow, "rk4"), []
    for solve in (checkpointing.solve_all_vjp, lambda *args: None):
        cost = Cost()
        metered = MeteredFlow(flow, SAMPLES, cost)
        if (result := solve(metered, x, stages)) is not None:
            result[1](v)
        else:
            for state, plan, w in zip(x, stages, v, strict=True):
                solvers.solve_vjp(metered, state, plan)[1](w)
        found.append(cost)
    assert found[0] == found[1]
    assert found[0].evaluations == found[0].vjps == 4 * sum(STEPS) * len(HORIZONS)


def test_what_the_loop_does_better_is_left_to_it(way):
    if way == "compiled":
        pytest.skip("compiled loops do all of this")
    flow, x, _ = problem()
    each = solvers.uniform_grid(T, HORIZONS.repeat_interleave(SAMPLES), 16)
    for stages in (
        plans(flow, "ab2"),
        [solvers.plan("euler", flow.path, each)] * len(STEPS),  # every sample has times of its own
        [solvers.projection(flow.path, T)],
    ):
        rows = x[: len(stages), :3] if len(stages[0]) == 1 else x
        assert flow.solve_vjp(rows, stages) is None
    assert flow.solve_vjp(x.clone().requires_grad_(), plans(flow, "euler")) is None


@pytest.mark.parametrize("solver", ["euler", "midpoint", "rk4", "ab2"])
@pytest.mark.parametrize("t", [0.3, torch.linspace(0.1, 0.3, SAMPLES, dtype=torch.float64)], ids=["shared", "each"])
def test_estimators_agree_with_their_stored_form(solver, t):
    flow, x, _ = problem()
    x, loss = x[0, :SAMPLES], HalfSquaredDistance(randn(SAMPLES, 5, seed=9))
    surface = gradients.lookahead_surface(flow, loss, x, t, [16, 32], [0.3, 0.7, 1.0], solver=solver)
    for i, n in enumerate((16, 32)):
        for j, s in enumerate((0.3, 0.7, 1.0)):
            options = {"steps": n, "horizon": s, "solver": solver}
            stored = gradients.lookahead(flow, loss, x, t, memory="store", **options)
            chosen = gradients.lookahead(flow, loss, x, t, **options)
            assert difference(surface.gradient[i, j], stored.gradient) <= 4e-12
            assert difference(chosen.gradient, stored.gradient) <= 4e-12
            assert chosen.cost.evaluations == pytest.approx(stored.cost.evaluations, rel=1e-12)
            assert chosen.cost.vjps == pytest.approx(stored.cost.vjps, rel=1e-12)
