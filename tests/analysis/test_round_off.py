"""Perturbed arithmetic and the noise of a function: against errors known from exact arithmetic, and by what it leaves.

The truth of a rounded result is the same operation on rational numbers (``fractions``), or noise that the test adds.
"""

from fractions import Fraction

import pytest
import torch

from analysis.losses import value_and_gradient
from analysis.round_off import NOISE_POINTS, PerturbedArithmetic, last_digits, noise_level, perturbed_gradient
from tests.support.problems import EPS, f64, randn


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def spread(loss, x, draws=8):
    """The largest relative distance of perturbed gradients from the plain one, (B,)."""
    plain, g = value_and_gradient(loss, x)[1], generator()
    apart = torch.stack([perturbed_gradient(loss, x, g) - plain for _ in range(draws)])
    return (torch.linalg.vector_norm(apart, dim=2) / torch.linalg.vector_norm(plain, dim=1)).amax(0)


def test_last_digits_moves_every_entry_by_one_unit():
    for dtype in (torch.float32, torch.float64):
        x = randn(50, 3).to(dtype)
        moved = (last_digits(x, generator()) - x) / (torch.finfo(dtype).eps * x)
        assert ((moved.abs() >= 0.49) & (moved.abs() <= 2.01)).all()
        assert len(moved.sign().unique()) == 2


@pytest.mark.parametrize("shift", [1.0, 1e4, 1e8, 1e12])
def test_the_spread_covers_a_known_cancellation(shift):
    # The gradient of ((x + s) - s)^2 / 2 is (x + s) - s, in which x keeps the digits above s eps.
    def loss(z):
        return ((z + shift) - shift).square().sum(1) / 2

    x = randn(6, 3, seed=1)
    gradient = value_and_gradient(loss, x)[1]
    pairs = zip(gradient.flatten().tolist(), x.flatten().tolist(), strict=True)
    exact = f64([float(Fraction(g) - Fraction(v)) for g, v in pairs]).reshape(6, 3)
    error = torch.linalg.vector_norm(exact, dim=1) / torch.linalg.vector_norm(x, dim=1)
    seen = spread(loss, x)
    assert (error <= 2 * seen).all()
    assert (seen <= 20 * EPS * (1 + shift / x.abs().amax(1))).all()


@pytest.mark.parametrize(
    "loss",
    [
        lambda z: torch.nn.functional.layer_norm(z, (3,)).pow(3).sum(1),
        lambda z: torch.nn.functional.gelu(z).sum(1),
        lambda z: torch.nn.functional.mse_loss(z, torch.zeros_like(z), reduction="none").mean(1),
        lambda z: torch.nn.functional.conv1d(z[:, None], torch.ones(1, 1, 2, dtype=z.dtype)).square().sum((1, 2)),
        lambda z: torch.cat([z, z], 1).max(1).values + z.clone().mul_(2).add_(1).sum(1),
        lambda z: z[:, torch.arange(3).flip(0)].cumsum(1).norm(dim=1),
        lambda z: torch.fft.rfft(z).abs().sum(1),
        lambda z: torch.linalg.solve(torch.eye(3, dtype=z.dtype), z.T).sum(0),
    ],
)
def test_well_conditioned_losses_keep_their_gradient(loss):
    assert (spread(loss, randn(4, 3, seed=2)) <= 1e-13).all()


def test_views_and_new_constants_stay_and_in_place_results_move():
    x = randn(4, 3)
    with PerturbedArithmetic(generator()):
        view, constant, whole = x.T, torch.arange(5.0), (x > 0).long()
        moved = torch.zeros(4, 3, dtype=torch.float64)
        moved.add_(x)
    assert view.data_ptr() == x.data_ptr()
    assert torch.equal(constant, torch.arange(5.0))
    assert torch.equal(whole, (x > 0).long())
    assert (moved != x).all()
    torch.testing.assert_close(moved, x, rtol=2 * EPS, atol=0.0)


class Refusing(torch.autograd.Function):
    """A sum that does not run while any dispatch mode is on."""

    @staticmethod
    def forward(ctx, x):
        if torch.utils._python_dispatch._get_current_dispatch_mode() is not None:
            raise RuntimeError("no dispatch modes here")
        return x.sum(1)

    @staticmethod
    def backward(ctx, g):
        return g[:, None].expand(-1, 3)


def test_a_loss_that_cannot_run_perturbed_is_said_to_be_left_out():
    with pytest.warns(RuntimeWarning, match="leave its round-off out"):
        gradient = perturbed_gradient(Refusing.apply, randn(4, 3), generator())
    assert torch.equal(gradient, torch.ones(4, 3, dtype=torch.float64))


def test_the_noise_level_is_that_of_the_noise_and_not_of_what_is_smooth():
    places = torch.linspace(0, 1e-6, NOISE_POINTS, dtype=torch.float64)[:, None]
    smooth = (30 * places + randn(1, 2000, seed=3)).sin()
    assert noise_level(smooth) <= 2 * EPS
    for size in (1e-12, 1e-7):
        assert noise_level(smooth + size * randn(NOISE_POINTS, 2000, seed=4)) == pytest.approx(size, rel=0.1)
