"""Losses against their formulas, written out with dense inverses, and their gradients against closed forms."""

import pytest
import torch

from analysis import losses
from analysis.losses import value_and_gradient, values_and_gradients
from tests.support.problems import f64, randn, random_covariance

A, Y, X = randn(2, 3, seed=1), randn(4, 2, seed=2), randn(4, 3, seed=3)  # B = 4, m = 2, d = 3


def test_half_the_squared_distance_of_events():
    x, target = randn(4, 2, 3), randn(2, 3, seed=5)
    value, gradient = value_and_gradient(losses.HalfSquaredDistance(target), x)
    torch.testing.assert_close(value, ((x - target) ** 2).sum((1, 2)) / 2)
    torch.testing.assert_close(gradient, x - target)


@pytest.mark.parametrize("y", [Y, Y[0]])
def test_the_negative_log_likelihood_of_correlated_noise(y):
    covariance = random_covariance(2, 50.0) * f64([[2.0, 1.0], [1.0, 0.5]])
    residual = X @ A.T - y
    expected = torch.einsum("bi,ij,bj->b", residual, torch.linalg.inv(covariance), residual) / 2
    value, gradient = value_and_gradient(losses.LinearGaussian(A, y, covariance), X)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, residual @ torch.linalg.inv(covariance) @ A)


def test_independent_noise_has_one_standard_deviation():
    value, gradient = value_and_gradient(losses.HalfSquaredResidual(A, Y, noise=0.3), X)
    residual = X @ A.T - Y
    torch.testing.assert_close(value, residual.square().sum(1) / (2 * 0.3**2))
    torch.testing.assert_close(gradient, residual @ A / 0.3**2)


def test_the_reduced_measurement_is_the_same_but_for_a_constant_and_has_orthogonal_rows():
    operator = torch.cat([A, A[:1] + A[1:]])  # three rows of rank two
    loss = losses.LinearGaussian(operator, randn(3, seed=7), random_covariance(3, 5.0))
    rows, values = loss.reduced
    offset = loss(X) - (X @ rows.T - values).square().sum(1) / 2
    torch.testing.assert_close(offset, offset[:1].expand(4))
    gram = rows @ rows.T
    torch.testing.assert_close(gram, torch.diag(gram.diagonal()), atol=1e-12, rtol=0)


def test_a_linear_loss_has_its_direction_as_gradient_everywhere():
    direction = randn(4, 3, seed=9)
    value, gradient = value_and_gradient(losses.Linear(direction), X)
    torch.testing.assert_close(value, (X * direction).sum(1))
    torch.testing.assert_close(gradient, direction)


class Twice(losses.HalfSquaredDistance):
    def __call__(self, x):
        return 2 * super().__call__(x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", [losses.HalfSquaredDistance, losses.Linear])
def test_closed_forms_are_what_autograd_gives_to_the_last_bit(kind, dtype):
    x = randn(3, 5, 2, 4, seed=1).to(dtype)
    for given in (randn(5, 2, 4, seed=2), randn(2, 4, seed=2).requires_grad_()):
        loss = kind(given)
        value, gradient = values_and_gradients(loss, x)
        points = x.clone().requires_grad_()
        expected = torch.stack([loss(batch) for batch in points])
        (slope,) = torch.autograd.grad(expected.sum(), points)
        assert torch.equal(value, expected)
        assert torch.equal(gradient, slope)
        assert not value.requires_grad
        assert not gradient.requires_grad


def test_a_subclass_may_be_another_loss():
    target = randn(3, seed=5)
    value, gradient = value_and_gradient(Twice(target), X)
    torch.testing.assert_close(value, ((X - target) ** 2).sum(1))
    torch.testing.assert_close(gradient, 2 * (X - target))
