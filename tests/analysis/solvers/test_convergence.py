"""Orders of accuracy against the exact ideal gradient: in the steps end to end, in zeta for greedy."""

import numpy as np
import pytest
import torch

from analysis import gradients, losses
from analysis.paths import CondOT, Cosine
from analysis.reference import ideal_gradient
from analysis.solvers import SOLVERS
from tests.support.problems import f64, randn, random_rotation, relative_l2
from toy_models import ProductMixtureFlow

PATHS = {"condot": CondOT(), "cosine": Cosine()}
LOSS = losses.HalfSquaredDistance(f64([1.0, -0.5, 0.3]))
STEPS = [16, 32, 64, 128, 256]


def smooth(path):
    """Four overlapping modes in three dimensions, with an exact map."""
    factors = [
        (f64([0.4, 0.6]), f64([-0.8, 0.6]), f64([0.5, 0.7])),
        (f64([0.7, 0.3]), f64([-0.3, 0.9]), f64([0.8, 0.6])),
        (f64([1.0]), f64([0.2]), f64([0.9])),
    ]
    return ProductMixtureFlow(factors, random_rotation(3, seed=1), path)


def slope(x, y):
    return np.polyfit(np.log(x), np.log(y), 1)[0]


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4), ("ddim", 1)])
def test_end_to_end_has_the_declared_order_in_the_steps(name, solver, order):
    assert SOLVERS[solver].order == order
    flow, x = smooth(PATHS[name]), randn(8, 3, seed=2)
    truth = ideal_gradient(flow, LOSS, x, 0.2)
    errors = {}
    for steps in STEPS:
        found = gradients.end_to_end(flow, LOSS, x, 0.2, steps=steps, solver=solver)
        errors[steps] = float(relative_l2(found.gradient, truth.gradient).median())
    window = [n for n in STEPS if errors[n] > 8 * float(truth.error_bound.max())][-3:]  # above round-off
    assert window[-1] >= 128
    assert -slope(window, [errors[n] for n in window]) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("name", PATHS)
def test_greedy_has_order_two_in_zeta(name):
    path = PATHS[name]
    flow, data, noise = smooth(path), randn(8, 3, seed=3), randn(8, 3, seed=4)
    zetas, errors = np.geomspace(1e-3, 3e-2, 6), []
    for zeta in zetas:
        t = path.time_from_zeta(float(zeta))
        x = path.alpha(t) * data + path.sigma(t) * noise
        truth = ideal_gradient(flow, LOSS, x, t).gradient
        errors.append(float(relative_l2(gradients.greedy(flow, LOSS, x, t).gradient, truth).median()))
    assert slope(zetas, errors) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("name", PATHS)
def test_lookahead_falls_with_the_square_of_zeta_at_the_horizon(name):
    path, x = PATHS[name], randn(8, 3, seed=5)
    flow = smooth(path)
    truth = ideal_gradient(flow, LOSS, x, 0.2).gradient
    zetas, errors = np.geomspace(3e-3, 3e-2, 4), []
    for zeta in zetas:
        horizon = path.time_from_zeta(float(zeta))
        found = gradients.lookahead(flow, LOSS, x, 0.2, horizon=horizon, steps=64, solver="rk4")
        errors.append(float(relative_l2(found.gradient, truth).median()))
    assert slope(zetas, errors) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("name", PATHS)
def test_one_gaussian_direction_is_shrunk_as_predicted(name):
    # Along a direction of variance lam the greedy derivative is the ideal one times 1/sqrt(1 + zeta^2/lam).
    path, t, lam = PATHS[name], f64([0.1, 0.4, 0.7, 0.9]), 0.3
    flow = ProductMixtureFlow([(f64([1.0]), f64([0.0]), f64([lam]))], torch.eye(1), path)
    linear = losses.Linear(torch.ones(1, dtype=torch.float64))
    x = randn(4, 1, seed=6)
    ratio = gradients.greedy(flow, linear, x, t).gradient / ideal_gradient(flow, linear, x, t).gradient
    expected = 1 / torch.sqrt(1 + path.zeta(t) ** 2 / lam)
    torch.testing.assert_close(ratio[:, 0], expected, rtol=1e-13, atol=0)
