"""Optimise, then discretise: orders against the ideal gradient, and distances from the gradient of the discrete map."""

import functools

import numpy as np
import pytest
import torch

from analysis import gradients, losses, solvers
from analysis.gradients import ESTIMATORS
from analysis.gradients._adjoint import Visit, hermite
from analysis.paths import CondOT, Cosine, LinearVP, VarianceExploding
from analysis.reference import ideal_gradient
from tests.support.adjoints import LOSS, RUNGE_KUTTA, problem
from tests.support.problems import EPS, distance, f64, randn, relative_l2, user_path
from toy_models.problems import zoo

PATHS = {"condot": CondOT(), "cosine": Cosine(), "user": user_path()}


@functools.cache
def ideal(path, t):
    """A problem with its ideal gradient."""
    flow, x = problem(PATHS[path], t)
    return flow, x, ideal_gradient(flow, LOSS, x, t)


def errors(path, t, name, options, steps):
    """The median relative errors, which must be above round-off and the reference's own error."""
    flow, x, truth = ideal(path, t)
    found = [ESTIMATORS[name](flow, LOSS, x, t, steps=n, **options).gradient for n in steps]
    error = np.array([float(relative_l2(g, truth.gradient).median()) for g in found])
    assert error.min() > 20 * float(truth.error_bound.max())
    return error


def slope(steps, error):
    return -np.polyfit(np.log(steps), np.log(error), 1)[0]


@pytest.mark.parametrize("path", ["condot", "cosine"])
@pytest.mark.parametrize("name", RUNGE_KUTTA)
@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)])
def test_the_error_has_the_order_of_the_method(path, name, solver, order):
    if (name, solver) == ("adjoint_cached", "rk4"):
        order = 3  # states that are O(h^2) off between grid points cost one order
    steps = [24, 48, 96]
    assert slope(steps, errors(path, 0.3, name, {"solver": solver}, steps)) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize(
    ("path", "order", "expansion"),
    [(path, 1, "log_snr") for path in PATHS] + [(path, 2, "zeta") for path in PATHS] + [("user", 2, "log_snr")],
)
def test_deis_has_its_order(path, order, expansion):
    steps, options = [32, 64, 128], {"order": order, "expansion": expansion}
    assert slope(steps, errors(path, 0.3, "adjoint_deis", options, steps)) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("path", ["condot", "cosine"])
def test_an_expansion_in_log_snr_loses_a_logarithm_where_it_is_infinite(path):
    # n^2 times the error is constant in zeta; in log-SNR it grows by a constant with each doubling of n.
    steps = [32, 64, 128, 256]
    scaled = {
        expansion: np.array(steps) ** 2 * errors(path, 0.7, "adjoint_deis", {"order": 2, "expansion": expansion}, steps)
        for expansion in ("log_snr", "zeta")
    }
    assert np.ptp(scaled["zeta"]) < 0.05 * scaled["zeta"].mean()
    growth = np.diff(scaled["log_snr"])
    assert growth.min() > 0.1 * scaled["log_snr"][0]
    assert np.ptp(growth) < 0.5 * growth.mean()


@pytest.mark.parametrize("name", PATHS)
def test_a_step_with_the_jacobian_at_the_new_state_is_greedy(name):
    # The adjoint of x/sigma in gamma, from s = 1 to t: a' = a + h sigma_t Dx1hat(x_t)^T a in units of sigma. Written
    # out in a and with sigma_1 gamma_1 = alpha_1 it holds where gamma_1 is infinite too.
    path = PATHS[name]
    flow, x = problem(path)
    alpha, sigma = ((c(0.3), c(1.0)) for c in (path.alpha, path.sigma))
    endpoint = alpha[1] * flow.target(x, 0.3) + sigma[1] * flow.source(x, 0.3)
    old = losses.value_and_gradient(LOSS, endpoint)[1]
    jacobian = torch.func.vmap(torch.func.jacrev(lambda y: flow.predict(y, f64(0.3), path.readout("target", f64(0.3)))))
    product = torch.einsum("bij,bi->bj", jacobian(x), old)
    new = sigma[1] / sigma[0] * old + (alpha[1] - alpha[0] * sigma[1] / sigma[0]) * product
    assert distance(gradients.end_to_end(flow, LOSS, x, 0.3, steps=1, solver="ddim").gradient, new) <= 64 * EPS
    if sigma[1] == 0:
        assert distance(gradients.greedy(flow, LOSS, x, 0.3).gradient, new) <= 64 * EPS
    # The other two readings are different gradients: Jacobian at the old state (AdjointDEIS), and implicit in a too.
    explicit = gradients.adjoint_deis(flow, LOSS, x, 0.3, steps=1).gradient
    assert relative_l2(explicit, new).min() > 0.1
    h = alpha[1] / sigma[1].clamp_min(1e-9) - alpha[0] / sigma[0]
    system = torch.eye(3).double() - h * sigma[0] * jacobian(x).mT
    implicit = torch.linalg.solve(system, sigma[1].clamp_min(1e-9) * old) / sigma[0]
    assert relative_l2(implicit, new).min() > 0.1


def test_many_steps_with_the_jacobian_at_the_new_state_are_the_gradient_through_ddim():
    path, steps = PATHS["user"], 6
    flow, x = problem(path)
    grid = solvers.uniform_grid(f64(0.3), f64(1.0), steps)
    plan, visited = solvers.plan("ddim", path, grid), [x]
    for i in range(steps):
        visited.append(solvers.step(flow, visited[-1], plan[i]))
    a = path.sigma(1.0) * losses.value_and_gradient(LOSS, visited[-1])[1]  # the adjoint of x/sigma
    for i in reversed(range(steps)):
        pull = flow.predict_vjp(visited[i], grid[i], path.readout("target", grid[i]))[1]
        a = a + (path.gamma(grid[i + 1]) - path.gamma(grid[i])) * path.sigma(grid[i]) * pull(a)
    expected = gradients.end_to_end(flow, LOSS, x, 0.3, steps=steps, solver="ddim").gradient
    assert distance(a / path.sigma(0.3), expected) <= 500 * EPS


def test_euler_takes_the_jacobian_at_the_old_state():
    flow, x = problem(CondOT())
    grid = solvers.uniform_grid(f64(0.3), f64(1.0), 3)
    visited = [x]
    for i in range(3):
        visited.append(visited[-1] + (grid[i + 1] - grid[i]) * flow.velocity(visited[-1], grid[i]))
    a = back = losses.value_and_gradient(LOSS, visited[-1])[1]
    y = visited[-1]
    for i in reversed(range(3)):
        h, readout = grid[i + 1] - grid[i], flow.path.readout("velocity", grid[i + 1])
        a = a + h * flow.predict_vjp(visited[i + 1], grid[i + 1], readout)[1](a)
        velocity, pull = flow.predict_vjp(y, grid[i + 1], readout)
        y, back = y - h * velocity, back + h * pull(back)
    for name, expected in (("adjoint_cached", a), ("adjoint_interpolated", a), ("adjoint_backsolve", back)):
        found = ESTIMATORS[name](flow, LOSS, x, 0.3, steps=3, solver="euler")
        assert distance(found.gradient, expected) <= 64 * EPS
        assert distance(found.endpoint, visited[-1]) <= 64 * EPS


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_without_stages_between_grid_points_interpolation_is_the_cache(solver):
    flow, x = problem(Cosine())
    cached, interpolated = (
        ESTIMATORS[f"adjoint_{name}"](flow, LOSS, x, 0.3, steps=5, solver=solver) for name in ("cached", "interpolated")
    )
    assert distance(cached.gradient, interpolated.gradient) <= 64 * EPS


def test_the_interpolant_reproduces_cubics():
    def cubic(s):
        return Visit(s**3 * randn(1, 3) - s**2 + 2 * s, 3 * s**2 * randn(1, 3) - 2 * s + 2)

    state_at = hermite(cubic(f64(0.2)), cubic(f64(0.7)), f64(0.2), f64(0.5))
    for s in f64([0.2, 0.35, 0.6, 0.7]):
        assert distance(state_at(s), cubic(s).state) <= 16 * EPS


def test_the_exact_gradient_of_the_discrete_map_is_out_of_reach_of_a_backward_solve():
    # D7. The one is exact to round-off; the other two are not, and re-integrating the state makes it far worse where
    # the flow contracts strongly: here onto covariances of condition 1e4.
    for name, least, most_cached in (("overlapping", 0.01, 0.1), ("anisotropic", 0.3, 0.1)):
        subject = zoo.subject(name, "condot")
        generator = torch.Generator().manual_seed(0)
        x, loss = subject.states(f64([0.2]), 16, generator), subject.loss(1, 16, generator)
        for steps in (32, 64):
            discrete = gradients.end_to_end(subject.flow, loss, x, 0.2, steps=steps, solver="euler").gradient
            y = x.clone().requires_grad_()
            plan = solvers.plan("euler", subject.flow.path, solvers.uniform_grid(f64(0.2), f64(1.0), steps))
            (expected,) = torch.autograd.grad(loss(solvers.solve(subject.flow, y, plan)).sum(), y)
            assert relative_l2(discrete, expected).max() <= 1e-12
            backsolve = gradients.adjoint_backsolve(subject.flow, loss, x, 0.2, steps=steps).gradient
            cached = gradients.adjoint_cached(subject.flow, loss, x, 0.2, steps=steps).gradient
            assert relative_l2(backsolve, discrete).max() > least
            assert 1e-3 < relative_l2(cached, discrete).max() < most_cached


def test_one_step_of_deis_is_greedy_without_its_jacobian():
    flow, x = problem(CondOT())
    found = gradients.adjoint_deis(flow, LOSS, x, 0.3, steps=1, order=2)
    greedy = gradients.greedy(flow, LOSS, x, 0.3)
    assert distance(found.endpoint, greedy.endpoint) <= 64 * EPS
    assert distance(found.gradient, losses.value_and_gradient(LOSS, greedy.endpoint)[1] / 0.3) <= 64 * EPS
    assert (found.cost.evaluations, found.cost.vjps) == (1, 0)


@pytest.mark.parametrize("path", [*PATHS.values(), VarianceExploding(10.0), LinearVP()], ids=str)
def test_deis_of_order_one_follows_ddim(path):
    flow, x = problem(path, 0.6)
    found = gradients.adjoint_deis(flow, LOSS, x, 0.6, steps=7).endpoint
    assert distance(found, gradients.end_to_end(flow, LOSS, x, 0.6, steps=7, solver="ddim").endpoint) <= 1e-12


def test_the_cache_serves_the_states_between_of_rk4_last_first():
    # One step back by hand: the stages of the adjoint's step take their Jacobians at the end, at the forward step's
    # third and then its second stage, both in the middle, and at the start.
    flow, x, h = *problem(CondOT()), 0.7
    times = [f64(0.3 + c * h) for c in (0, 0.5, 0.5, 1)]
    k1 = flow.velocity(x, times[0])
    second = x + h / 2 * k1
    k2 = flow.velocity(second, times[1])
    third = x + h / 2 * k2
    k3 = flow.velocity(third, times[2])
    end = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + flow.velocity(x + h * k3, times[3]))

    def rate(a, state, t):
        return flow.predict_vjp(state, t, flow.path.readout("velocity", t))[1](a)

    a = losses.value_and_gradient(LOSS, end)[1]
    m1 = rate(a, end, times[3])
    m2 = rate(a + h / 2 * m1, third, times[2])
    m3 = rate(a + h / 2 * m2, second, times[1])
    expected = a + h / 6 * (m1 + 2 * m2 + 2 * m3 + rate(a + h * m3, x, times[0]))
    assert distance(gradients.adjoint_cached(flow, LOSS, x, 0.3, steps=1, solver="rk4").gradient, expected) <= 64 * EPS
    swapped = rate(a + h / 2 * rate(a + h / 2 * m1, second, times[1]), third, times[2])
    assert distance(swapped, m3) > 1e-4
