"""Batches in which some samples are at their horizon, or at time 1, already: each against itself alone.

The flow is a denoiser whose times stop short of 1, as the adapters have it: asked at 1 it still moves the state, so
that a sample which is there already must not be asked again. The gradient of such a sample is the loss gradient at x.
"""

import pytest
import torch

from analysis import losses, solvers
from analysis.flow import from_denoiser
from analysis.gradients import ESTIMATORS, lookahead_surface
from analysis.paths import CondOT
from tests.support.problems import distance, f64, randn

MEAN, VARIANCE = f64([1.0, -0.5]), 0.3
X, LOSS = randn(4, 2), losses.HalfSquaredDistance([0.0, 0.0])
HORIZONS, T = f64([0.5, 0.8, 1.0, 0.3]), f64([0.3, 0.6, 1.0, 0.95])
# Those whose coefficients are finite at the end of CondOT; the others are refused where a sample has to step there.
FINITE = [name for name in solvers.SOLVERS if not name.endswith(("_gamma", "_logsnr"))] + ["euler_gamma"]


def denoiser(x, t):
    """The exact one of N(MEAN, VARIANCE I) on CondOT."""
    a, q = t[:, None], 1 - t[:, None]
    return MEAN + a * VARIANCE / (a * a * VARIANCE + q * q) * (x - a * MEAN)


def flow(t_max):
    return from_denoiser(denoiser, CondOT(), t_max=t_max)


def alone(call, values):
    return torch.cat([call(X[i : i + 1], float(values[i])) for i in range(len(X))])


@pytest.mark.parametrize("t_max", [0.999, 0.9])
@pytest.mark.parametrize("solver", FINITE)
@pytest.mark.parametrize("name", ["lookahead", "identity_jacobian"])
def test_horizons_of_one_in_a_batch(name, solver, t_max):
    def call(x, horizon):
        return ESTIMATORS[name](flow(t_max), LOSS, x, 0.3, steps=4, solver=solver, horizon=horizon).gradient

    assert distance(call(X, HORIZONS), alone(call, HORIZONS)) <= 1e-12


@pytest.mark.parametrize("t_max", [0.999, 0.9])
@pytest.mark.parametrize(("name", "options"), [("end_to_end", {}), ("truncated", {"keep": 2})])
@pytest.mark.parametrize("solver", ["ddim", "euler", "rk4", "dpmpp_2m", "ab2"])
def test_times_of_one_in_a_batch(name, options, solver, t_max):
    def call(x, t):
        return ESTIMATORS[name](flow(t_max), LOSS, x, t, steps=4, solver=solver, **options).gradient

    found = call(X, T)
    assert distance(found, alone(call, T)) <= 1e-12
    assert torch.equal(found[2], X[2])


@pytest.mark.parametrize("memory", ["store", "checkpoint", "recursive", "reversible"])
def test_every_way_to_save_memory(memory):
    def call(x, t):
        return ESTIMATORS["end_to_end"](flow(0.9), LOSS, x, t, steps=64, memory=memory).gradient

    assert distance(call(X, T), alone(call, T)) <= 1e-12


def test_surfaces_with_times_of_their_own():
    found = lookahead_surface(flow(0.9), LOSS, X, T, [4], [1.0], solver="ddim").gradient[0, 0]
    assert torch.equal(found[2], X[2])
    at_horizon = f64([0.3, 0.6, 0.95, 0.95])
    found = lookahead_surface(flow(0.9), LOSS, X, at_horizon, [4], [0.95], solver="ddim").gradient[0, 0]
    expected = ESTIMATORS["lookahead"](flow(0.9), LOSS, X, at_horizon, steps=4, horizon=0.95, solver="ddim").gradient
    greedy = ESTIMATORS["greedy"](flow(0.9), LOSS, X, at_horizon).gradient
    assert distance(found, expected) <= 1e-12
    assert distance(found[2:], greedy[2:]) <= 1e-12


def test_grids_with_a_column_for_each_sample():
    grid = solvers.uniform_grid(f64([0.3] * 4), HORIZONS, 3)

    def call(x, horizon, grid):
        options = {"steps": 3, "horizon": horizon, "solver": "ddim", "grid": grid}
        return ESTIMATORS["lookahead"](flow(0.9), LOSS, x, 0.3, **options).gradient

    found = call(X[:3], HORIZONS[:3], grid[:, :3])
    one_by_one = [call(X[i : i + 1], float(HORIZONS[i]), grid[:, i]) for i in range(3)]
    assert distance(found, torch.cat(one_by_one)) <= 1e-12


def test_adaptive_at_the_end_is_the_loss_gradient():
    assert torch.equal(ESTIMATORS["adaptive"](flow(0.9), LOSS, X, T, tolerance=0.1).gradient[2], X[2])


@pytest.mark.parametrize("memory", [None, "store", "checkpoint", "recursive", "reversible"])
@pytest.mark.parametrize("grid", ["t", "zeta"])
def test_no_step_is_taken_where_every_horizon_is_t_however_memory_is_saved(memory, grid):
    found = ESTIMATORS["lookahead"](flow(0.9), LOSS, X, 0.4, steps=3, horizon=0.4, memory=memory, grid=grid)
    assert torch.equal(found.gradient, ESTIMATORS["greedy"](flow(0.9), LOSS, X, 0.4).gradient)
    ended = ESTIMATORS["end_to_end"](flow(0.9), LOSS, X, 1.0, steps=3, memory=memory, grid=grid)
    assert torch.equal(ended.gradient, X)


def test_where_no_step_is_taken_times_are_refused_and_an_unknown_grid_is():
    for grid, message in ((torch.tensor([0.4, 0.4]), "grid must be a name where every horizon is t"),
                          ("log", "grid must be one of")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            ESTIMATORS["lookahead"](flow(0.9), LOSS, X, 0.4, steps=1, horizon=0.4, grid=grid)
