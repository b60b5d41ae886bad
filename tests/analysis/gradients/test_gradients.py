"""The estimators against each other, automatic differentiation and central differences."""

import pytest
import torch

from analysis import gradients, losses, solvers
from analysis.flow import from_denoiser, from_noise_predictor, from_velocity
from analysis.paths import PATHS, CondOT, Cosine
from analysis.solvers import SOLVERS
from tests.support.problems import (
    EPS,
    FromFormulas,
    central_difference,
    distance,
    every_path,
    f64,
    randn,
    random_mixture,
    states,
)
from toy_models import MixtureFlow

EVERY_PATH = every_path()
CORE = {"euler", "midpoint", "heun", "rk4", "ddim"}
LOSS = losses.HalfSquaredResidual(randn(2, 3, seed=50), f64([0.5, -1.0]), noise=0.7)
TIMES = {"shared": 0.4, "per sample": f64([0.1, 0.3, 0.5, 0.7, 0.8])}


def reaches_one(solver):
    """Whether a solver's coefficients are finite in a step that ends at t = 1: some coordinates are infinite there."""
    try:
        solvers.plan(solver, CondOT(), solvers.uniform_grid(f64(0.4), f64(1.0), 2))
    except ValueError:
        return False
    return True


ENDING = [name for name in SOLVERS if reaches_one(name)]


def test_the_solvers_in_t_and_ddim_reach_time_one_and_others_say_why_not():
    assert set(ENDING) >= CORE
    flow, x = problem(CondOT())
    for solver in set(SOLVERS) - set(ENDING):
        with pytest.raises(ValueError, match=f"'{solver}' has infinite coefficients.*t = 1; use ddim"):
            gradients.end_to_end(flow, LOSS, x, 0.4, steps=2, solver=solver)
        assert not gradients.lookahead(flow, LOSS, x, 0.4, steps=2, horizon=0.99, solver=solver).failed.any()


@pytest.fixture(params=TIMES)
def t(request):
    return TIMES[request.param]


def problem(path, t=0.4):
    """A flow in three dimensions and five of its states."""
    mixture = random_mixture(3, 3)
    return MixtureFlow(mixture, path), states(mixture, path, t, 5)


def time(t):
    return torch.as_tensor(t, dtype=torch.float64)


def through_autograd(flow, x, t, steps, solver, horizon=1.0):
    """The gradient of the loss after a solve, and the end of the solve, by automatic differentiation of all of it."""
    grid = solvers.uniform_grid(time(t), time(horizon), steps)
    x = x.clone().requires_grad_()
    endpoint = solvers.solve(flow, x, solvers.plan(solver, flow.path, grid))
    (gradient,) = torch.autograd.grad(LOSS(endpoint).sum(), x)
    return gradient, endpoint.detach()


@pytest.mark.parametrize("name", PATHS)
def test_greedy_is_one_ddim_step_bit_for_bit(name, t):
    flow, x = problem(PATHS[name](), t)
    greedy = gradients.greedy(flow, LOSS, x, t)
    step = gradients.end_to_end(flow, LOSS, x, t, steps=1, solver="ddim")
    assert torch.equal(greedy.gradient, step.gradient)
    assert torch.equal(greedy.endpoint, step.endpoint)
    assert torch.equal(greedy.value, LOSS(greedy.endpoint))


@pytest.mark.parametrize("name", EVERY_PATH)
def test_greedy_is_the_gradient_of_the_loss_of_the_target(name, t):
    flow, x = problem(EVERY_PATH[name], t)
    y = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(LOSS(flow.target(y, t)).sum(), y)
    assert distance(gradients.greedy(flow, LOSS, x, t).gradient, expected) <= 1e-12


@pytest.mark.parametrize("solver", ENDING)
@pytest.mark.parametrize(
    "path", [CondOT(), Cosine(), EVERY_PATH["ve"], EVERY_PATH["user"]], ids=lambda p: type(p).__name__
)
def test_end_to_end_is_autograd_through_the_same_solver(solver, path, t):
    flow, x = problem(path, t)
    estimate = gradients.end_to_end(flow, LOSS, x, t, steps=7, solver=solver)
    gradient, endpoint = through_autograd(flow, x, t, 7, solver)
    assert distance(estimate.endpoint, endpoint) <= 1e-12
    assert distance(estimate.gradient, gradient) <= 1e-12


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("horizon", [0.85, f64([0.8, 0.85, 0.9, 0.95, 0.99])], ids=["shared", "per sample"])
def test_lookahead_is_autograd_through_solver_and_projection(solver, horizon, t):
    flow, x = problem(Cosine(), t)
    estimate = gradients.lookahead(flow, LOSS, x, t, horizon=horizon, steps=3, solver=solver)
    begin, end = time(t), time(horizon)
    y = x.clone().requires_grad_()
    state = solvers.solve(flow, y, solvers.plan(solver, flow.path, solvers.uniform_grid(begin, end, 3)))
    (expected,) = torch.autograd.grad(LOSS(flow.target(state, horizon)).sum(), y)
    assert distance(estimate.gradient, expected) <= 1e-12


@pytest.mark.parametrize("solver", ENDING)
def test_lookahead_has_greedy_and_end_to_end_at_its_ends(solver, t):
    flow, x = problem(CondOT(), t)
    greedy = gradients.greedy(flow, LOSS, x, t)
    whole = gradients.end_to_end(flow, LOSS, x, t, steps=3, solver=solver)
    for options in ({"horizon": t}, {"horizon_fraction": 0.0}):
        assert torch.equal(
            gradients.lookahead(flow, LOSS, x, t, steps=3, solver=solver, **options).gradient, greedy.gradient
        )
    found = gradients.lookahead(flow, LOSS, x, t, steps=3, solver=solver, horizon=1.0)
    assert torch.equal(found.gradient, whole.gradient)
    assert torch.equal(found.endpoint, whole.endpoint)
    found = gradients.lookahead(flow, LOSS, x, t, steps=3, solver=solver, horizon=torch.ones(5, dtype=torch.float64))
    assert distance(found.gradient, whole.gradient) <= 64 * EPS  # the same numbers, summed in another order


@pytest.mark.parametrize("solver", ENDING)
def test_per_sample_horizons_and_times_agree_with_one_by_one(solver):
    t, horizon = TIMES["per sample"], f64([0.1, 0.6, 1.0, 0.9, 1.0])
    flow, x = problem(CondOT(), t)
    batch = gradients.lookahead(flow, LOSS, x, t, horizon=horizon, steps=3, solver=solver)
    for i in range(5):
        one = gradients.lookahead(
            flow, LOSS, x[i : i + 1], float(t[i]), horizon=float(horizon[i]), steps=3, solver=solver
        )
        assert distance(batch.gradient[i : i + 1], one.gradient) <= 500 * EPS
        assert distance(batch.endpoint[i : i + 1], one.endpoint) <= 500 * EPS


def test_horizon_fraction_is_a_share_of_the_remaining_time(t):
    flow, x = problem(Cosine(), t)
    horizon = t + 0.25 * (1 - t)
    by_fraction = gradients.lookahead(flow, LOSS, x, t, horizon_fraction=0.25, steps=2)
    assert (
        distance(by_fraction.gradient, gradients.lookahead(flow, LOSS, x, t, horizon=horizon, steps=2).gradient)
        <= 64 * EPS
    )


@pytest.mark.parametrize("solver", ENDING)
def test_gradient_of_the_discrete_map_agrees_with_central_differences(solver, t):
    flow, x = problem(CondOT(), t)
    v, options = randn(5, 3, seed=51), {"steps": 4, "solver": solver}
    found = (gradients.end_to_end(flow, LOSS, x, t, **options).gradient * v).sum(1)

    def value(y):
        return gradients.end_to_end(flow, LOSS, y, t, **options).value

    expected = central_difference(value, x, v, EPS**0.2 / 16)
    # Truncation h^4 with fifth derivatives up to 1e4 of the first, and round-off eps/h.
    assert (found - expected).abs().max() <= 1e4 * EPS**0.8 * expected.abs().max()


@pytest.mark.parametrize(
    ("make", "prediction"), [(from_velocity, "velocity"), (from_denoiser, "target"), (from_noise_predictor, "source")]
)
@pytest.mark.parametrize("path", [CondOT(), Cosine()], ids=lambda p: type(p).__name__)
def test_a_module_of_the_same_formulas_gives_the_same_gradients(make, prediction, path, t):
    flow, x = problem(path, t)
    learned = make(FromFormulas(flow, prediction), path)
    for solver in ENDING if prediction == "velocity" else ["ddim", "euler", "midpoint"]:
        for call, options in (
            (gradients.end_to_end, {"steps": 4, "solver": solver}),
            (gradients.lookahead, {"steps": 2, "solver": solver, "horizon": 0.9}),
        ):
            found, expected = (call(f, LOSS, x, t, **options) for f in (learned, flow))
            assert distance(found.gradient, expected.gradient) <= 1e-10
            assert distance(found.endpoint, expected.endpoint) <= 1e-10
    assert (
        distance(gradients.greedy(learned, LOSS, x, t).gradient, gradients.greedy(flow, LOSS, x, t).gradient) <= 1e-10
    )


@pytest.mark.parametrize("prediction", ["target", "source"])
def test_a_denoiser_is_its_own_target_at_time_one(prediction):
    # Greedy needs nothing but the target there, and lookahead asks for it where only some horizons are one.
    flow, x = problem(CondOT())
    make = from_denoiser if prediction == "target" else from_noise_predictor
    learned = make(FromFormulas(flow, prediction), CondOT(), t_max=1.0)
    found = gradients.greedy(learned, LOSS, x, 1.0)
    assert distance(found.gradient, gradients.greedy(flow, LOSS, x, 1.0).gradient) <= 1e-10
    horizon = f64([0.5, 1.0, 0.7, 1.0, 0.9])
    found = gradients.lookahead(learned, LOSS, x, 0.4, horizon=horizon, solver="ddim")
    expected = gradients.lookahead(flow, LOSS, x, 0.4, horizon=horizon, solver="ddim")
    assert distance(found.gradient, expected.gradient) <= 1e-10


def test_estimators_leave_no_gradients_behind_and_need_no_grad_mode():
    flow = from_velocity(torch.nn.Bilinear(3, 1, 3).double().requires_grad_(), CondOT())
    flow.function = lambda x, t, layer=flow.function: layer(x, t[:, None])
    x = randn(5, 3)
    with torch.no_grad():
        quiet = gradients.end_to_end(flow, LOSS, x, 0.3, steps=2, solver="rk4")
    estimate = gradients.end_to_end(flow, LOSS, x, 0.3, steps=2, solver="rk4")
    assert torch.equal(quiet.gradient, estimate.gradient)
    assert not any(v.requires_grad for v in (estimate.gradient, estimate.endpoint, estimate.value))
    assert x.grad is None
    assert not x.requires_grad


def test_event_shapes_of_images_are_kept():
    convolution = torch.nn.Conv2d(2, 2, 3, padding=1).double()
    flow, x = from_velocity(lambda x, t: convolution(x) * t[:, None, None, None], CondOT()), randn(3, 2, 4, 5)
    target = randn(2, 4, 5, seed=1)
    found = gradients.end_to_end(flow, losses.HalfSquaredDistance(target), x, f64([0.2, 0.5, 0.9]), steps=2)
    one = gradients.end_to_end(flow, losses.HalfSquaredDistance(target), x[1:2], 0.5, steps=2)
    assert found.gradient.shape == x.shape
    assert distance(found.gradient[1:2], one.gradient) <= 64 * EPS
