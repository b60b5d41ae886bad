"""Inverse problems, linear and not: noise, losses, and what is refused.

Losses are compared with the sum of squares of the noise that was added, gradients with finite differences, ends and
clipped pixels with their known values.
"""

import math

import pytest
import torch

from analysis.losses import value_and_gradient
from analysis.operators import NONLINEAR, OPERATORS, InverseProblem, inverse_problem
from tests.support.problems import central_difference, distance, f64, rand, randn

IMAGES = 2 * rand(3, 784) - 1


@pytest.mark.parametrize("name", [*OPERATORS, *NONLINEAR])
def test_measurements_are_the_operators_with_noise_of_the_stated_size(name):
    problem = inverse_problem(name, 28, 0.05)
    y = problem.measure(IMAGES, torch.Generator().manual_seed(0))
    noise = (y - problem.operator(IMAGES)) / 0.05
    assert y.shape == (3, problem.operator.out_dim)
    assert float(noise.std()) == pytest.approx(1, abs=5 / math.sqrt(2 * noise.numel()))
    torch.testing.assert_close(problem.loss(y)(IMAGES), noise.square().sum(1) / 2)


@pytest.mark.parametrize("name", NONLINEAR)
def test_nonlinear_operators_keep_black_and_white_and_are_not_linear(name):
    operator = inverse_problem(name, 28, 0.05).operator
    ends = f64([[-1.0], [1.0]]).expand(2, 784)
    torch.testing.assert_close(operator(ends), ends)
    assert distance(operator(0.5 * IMAGES), 0.5 * operator(IMAGES)) > 0.05
    assert float(operator(IMAGES).abs().max()) <= 1 + 1e-12


@pytest.mark.parametrize("name", NONLINEAR)
def test_the_loss_of_a_nonlinear_measurement_has_the_gradient_of_its_differences(name):
    problem, direction = inverse_problem(name, 28, 0.5), randn(3, 784, seed=3)
    x = 0.4 * IMAGES  # away from where clipping has a kink
    loss = problem.loss(problem.measure(IMAGES, torch.Generator().manual_seed(0)))
    derivative = (value_and_gradient(loss, x)[1] * direction).sum(1)
    h = 1e-3 if name == "nonlinear_blur" else 1e-6
    assert distance(central_difference(loss, x, direction, h), derivative) < 1e-7


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("pixel", [39.0, 41.0, 1e3, 1e30])
def test_diverged_samples_have_a_finite_loss_on_a_saturated_film(pixel, dtype):
    problem, x = inverse_problem("nonlinear_blur", 28, 0.05), torch.full((2, 784), -1.0, dtype=dtype)
    x[0, 400] = pixel
    value, gradient = value_and_gradient(problem.loss(torch.zeros(784, dtype=dtype)), x)
    lit = problem.operator(x)[0] - problem.operator(x)[1] > 0
    assert bool(torch.isfinite(value).all())
    assert float(gradient[0, 400]) == 0
    torch.testing.assert_close(problem.operator(x)[0][lit], x.new_full((int(lit.sum()),), 2 / -math.expm1(-2) - 1))


def test_clipped_pixels_have_no_gradient():
    problem = inverse_problem("hdr_clipping", 28, 0.1)
    gradient = value_and_gradient(problem.loss(torch.zeros(784, dtype=torch.float64)), IMAGES)[1]
    assert torch.equal(gradient == 0, IMAGES.abs() > 0.5)


def test_a_linear_measurement_as_an_image_is_measured_alike():
    problem = inverse_problem("motion_deblurring", 28, 0.05)
    y = problem.operator(IMAGES)
    torch.testing.assert_close(problem.operator(problem.as_images(y)), y)
    clipped = inverse_problem("hdr_clipping", 28, 0.05)
    assert torch.equal(clipped.as_images(IMAGES), IMAGES)


@pytest.mark.parametrize("noise", [0.0, -0.1, math.nan, math.inf])
def test_noise_that_is_not_positive_is_refused(noise):
    with pytest.raises(ValueError, match="noise must be positive"):
        inverse_problem("nonlinear_blur", 28, noise)


def test_unknown_operators_options_and_measurements_are_refused():
    with pytest.raises(ValueError, match=r"name must be one of .*hdr_clipping"):
        inverse_problem("deblurring", 28, 0.05)
    with pytest.raises(ValueError, match="gain must be above 1"):
        inverse_problem("hdr_clipping", 28, 0.05, gain=1.0)
    with pytest.raises(ValueError, match="width must be positive"):
        inverse_problem("nonlinear_blur", 28, 0.05, width=0.0)
    with pytest.raises(ValueError, match=r"measurement must fit A\(x\)"):
        inverse_problem("hdr_clipping", 28, 0.05).loss(torch.zeros(3, 700))(IMAGES)
    problem = inverse_problem("nonlinear_blur", 28, 0.05)
    with pytest.raises(ValueError, match=r"x must have shape \(B, 784\)"):
        problem.operator(IMAGES[:, :9])
    with pytest.raises(ValueError, match="operator must be linear for an exact posterior"):
        assert InverseProblem(problem.operator, 0.1).linear
