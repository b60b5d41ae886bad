"""The ideal gradient: against the golden values, against itself, and where it must refuse."""

import functools
import math

import mpmath
import pytest
import torch

from analysis import gradients, losses, reference, solvers
from analysis.flow import from_denoiser, from_velocity
from analysis.paths import CondOT, Cosine, LinearVP
from analysis.reference import CertificationError, ideal_gradient
from tests.support.golden import CASES, NAMES, arguments, distance, tensor
from tests.support.problems import EPS, central_difference, every_path, f64, randn, random_mixture, relative_l2
from toy_models import GaussianFlow, MixtureFlow, ProductMixtureFlow

PATHS = every_path()
LOSS = losses.HalfSquaredDistance(f64([1.0, -0.5, 0.3]))
EXACT = [case for case in CASES if case["family"] != "mixture"]


@functools.cache
def solved(i, general):
    """The reference of one golden case; a case without an exact map is certified either way."""
    return ideal_gradient(*arguments(CASES[i], general or CASES[i]["family"] == "mixture"))


def golden_error(i, general):
    """The true relative L2 error, (1,)."""
    return relative_l2(solved(i, general).gradient, tensor(CASES[i]["ideal_gradient"])[None])


every_case = pytest.mark.parametrize("i", range(len(CASES)), ids=NAMES)


@every_case
def test_golden_greedy(i):
    estimate = gradients.greedy(*arguments(CASES[i]))
    assert distance(estimate.gradient, CASES[i], "greedy_gradient") <= 1e-11
    assert distance(estimate.endpoint, CASES[i], "target_prediction") <= 1e-11


@every_case
def test_golden_exact_tier(i):
    result, exact = solved(i, False), CASES[i]["family"] != "mixture"
    assert result.tier == ("exact" if exact else "certified")
    assert distance(result.gradient, CASES[i], "ideal_gradient") <= (1e-11 if exact else 1e-9)
    assert distance(result.endpoint, CASES[i], "endpoint") <= (1e-11 if exact else 1e-9)


@every_case
def test_golden_certified_tier(i):
    result = solved(i, True)
    assert result.tier == "certified"
    assert distance(result.gradient, CASES[i], "ideal_gradient") <= 1e-9
    assert distance(result.endpoint, CASES[i], "endpoint") <= 1e-9
    # Fixed steps have no way back, and their determinant comes from a solve to 1e-10.
    assert float(result.diagnostics["determinant"]) <= (1e-10 if "round_trip" in result.diagnostics else 1e-8)
    assert float(result.diagnostics.get("round_trip", 0)) <= 1e-10


@every_case
@pytest.mark.parametrize("general", [False, True], ids=["own tier", "certified"])
def test_golden_bounds_are_honest_and_useful(i, general):
    # The golden values are rounded to double: they are themselves good to a few round-offs.
    assert (golden_error(i, general) <= solved(i, general).error_bound + 4 * EPS).all()
    assert (solved(i, general).error_bound <= 1e-10).all()


def flows(path):
    """An exact flow and the same distribution without its map."""
    factors = [
        (f64([0.3, 0.7]), f64([-1.5, 1.0]), f64([0.1, 0.4])),
        (f64([0.2, 0.5, 0.3]), f64([-2.0, 0.2, 1.4]), f64([0.2, 0.3, 0.5])),
        (f64([1.0]), f64([0.5]), f64([0.3])),
    ]
    exact = ProductMixtureFlow(factors, torch.linalg.qr(randn(3, 3, seed=1))[0], path)
    return exact, MixtureFlow(exact.mixture, path)


@pytest.mark.parametrize("name", ["condot", "vp_linear", "ve", "user"])
def test_certified_agrees_with_exact_on_every_path_at_per_sample_times(name):
    path, t = PATHS[name], f64([0.0, 0.1, 0.5, 0.9, 1.0])
    x = torch.hypot(path.alpha(t), path.sigma(t))[:, None] * randn(5, 3, seed=2)
    exact, certified = (ideal_gradient(flow, LOSS, x, t) for flow in flows(path))
    assert (exact.tier, certified.tier) == ("exact", "certified")
    error = relative_l2(certified.gradient, exact.gradient)
    assert (error <= exact.error_bound + certified.error_bound).all()
    assert (error <= 1e-10).all()


@pytest.mark.parametrize("tier", ["exact", "certified"])
def test_batch_agrees_with_one_by_one_to_the_bounds(tier):
    flow = flows(LinearVP())[tier == "certified"]
    x, t = randn(4, 3, seed=3), f64([0.2, 0.5, 0.7, 1.0])
    batch = ideal_gradient(flow, LOSS, x, t)
    assert batch.tier == tier
    for i in (0, 3):
        one = ideal_gradient(flow, LOSS, x[i : i + 1], float(t[i]))
        error = relative_l2(batch.gradient[i : i + 1], one.gradient)
        assert (error <= batch.error_bound[i] + one.error_bound).all()


def test_a_thousand_points_agree_with_three_of_them():
    flow, x = flows(CondOT())[1], randn(1000, 3, seed=4)
    batch = ideal_gradient(flow, LOSS, x, 0.3)
    few = ideal_gradient(flow, LOSS, x[[0, 500, 999]], 0.3)
    error = relative_l2(batch.gradient[[0, 500, 999]], few.gradient)
    assert (error <= batch.error_bound[[0, 500, 999]] + few.error_bound).all()
    assert (batch.error_bound <= 1e-9).all()


def test_gradient_is_that_of_the_loss_at_time_one():
    x = randn(4, 3, seed=5)
    for flow in flows(CondOT()):
        result = ideal_gradient(flow, LOSS, x, 1.0)
        assert (relative_l2(result.gradient, x - LOSS.target) <= result.error_bound).all()


def test_gradient_is_the_derivative_of_the_loss_of_the_endpoint():
    flow, x, v = flows(Cosine())[1], randn(4, 3, seed=6), randn(4, 3, seed=7)
    exact = flows(Cosine())[0]
    expected = central_difference(lambda y: LOSS(exact.exact_endpoint(y, 0.3)), x, v, EPS**0.2 / 8)
    found = (ideal_gradient(flow, LOSS, x, 0.3).gradient * v).sum(1)
    assert (found - expected).abs().max() <= 1e4 * EPS**0.8 * expected.abs().max()


def test_bound_of_a_loose_tolerance_is_honest():
    exact, general = flows(CondOT())
    x = randn(6, 3, seed=8)
    truth = ideal_gradient(exact, LOSS, x, 0.1).gradient
    for tolerance in (1e-6, 1e-9):
        loose = ideal_gradient(general, LOSS, x, 0.1, tolerance=tolerance, max_error=1.0)
        assert (relative_l2(loose.gradient, truth) <= loose.error_bound).all(), tolerance


class Misplaced(MixtureFlow):
    """A flow whose density is that of a wider mixture."""

    def log_prob(self, x, t):
        return super().log_prob(0.9 * x, t)


def test_a_density_that_does_not_belong_to_the_velocity_is_refused():
    flow = Misplaced(random_mixture(3, 3), CondOT())
    with pytest.raises(CertificationError, match="do not belong to each other"):
        ideal_gradient(flow, LOSS, randn(4, 3, seed=9), 0.4)


def test_a_bound_above_the_allowed_error_is_refused():
    with pytest.raises(CertificationError, match="above max_error = 1e-15"):
        ideal_gradient(flows(CondOT())[1], LOSS, randn(4, 3, seed=10), 0.4, max_error=1e-15)


def point_masses(path):
    """The denoiser of an empirical distribution of four points in three dimensions."""
    points = randn(4, 3, seed=11)

    def denoiser(x, t):
        alpha, sigma = path.alpha(t)[:, None], path.sigma(t)[:, None]
        distances = (x[:, None] - alpha[..., None] * points).square().sum(-1)
        return (-distances / (2 * sigma**2)).softmax(-1) @ points

    return denoiser


@pytest.mark.parametrize("path", [CondOT(), Cosine(), LinearVP()])
def test_point_masses_are_refused_up_to_the_end(path):
    # Their flow map is constant near each point: the ideal gradient is zero, and no velocity is defined at t = 1.
    flow = from_denoiser(point_masses(path), path, t_max=1.0)
    with pytest.raises((CertificationError, ValueError), match=r"t must lie|point mass|reference|certif"):
        ideal_gradient(flow, LOSS, randn(5, 3, seed=12), 0.4)


class Network(torch.nn.Module):
    """A small velocity network."""

    def __init__(self, dtype):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3)).to(dtype)

    def forward(self, x, t):
        return self.layers(torch.cat([x, t[:, None]], 1))


def test_a_float64_network_converges_to_finite_differences_of_a_fine_solve():
    flow, x, v = from_velocity(Network(torch.float64), CondOT()), randn(5, 3, seed=14), randn(5, 3, seed=15)
    result = ideal_gradient(flow, LOSS, x, 0.4)
    assert result.tier == "converged"
    assert set(result.diagnostics) == {"tolerances", "round_trip", "round_off"}
    stages = solvers.plan("rk4", flow.path, solvers.uniform_grid(f64(0.4), f64(1.0), 64))
    expected = central_difference(lambda y: LOSS(solvers.solve(flow, y, stages)), x, v, EPS**0.2)
    # Truncation of both: h^4 = EPS^0.8 and the fourth power of a step of 1/100.
    assert ((result.gradient * v).sum(1) - expected).abs().max() <= 1e-9 * expected.abs().max()
    assert (result.error_bound <= 1e-11).all()


def test_a_float32_network_is_bounded_honestly():
    network = Network(torch.float32)
    with torch.no_grad():
        for i, p in enumerate(network.parameters()):
            p.copy_(0.7 * randn(*p.shape, seed=i))
    x = randn(60, 3, seed=14).float()
    low = ideal_gradient(from_velocity(network, CondOT()), LOSS, x, 0.4)
    high = ideal_gradient(from_velocity(network.double(), CondOT()), LOSS, x.double(), 0.4)
    assert (low.tier, low.gradient.dtype) == ("converged", torch.float32)
    error = relative_l2(low.gradient.double(), high.gradient)
    assert (error <= 1e-4).all()
    assert (error <= low.error_bound).all()


@pytest.mark.parametrize("tolerance", [1e-14, 0.0, 1e-2, float("nan")])
def test_a_tolerance_out_of_range_is_refused(tolerance):
    with pytest.raises(ValueError, match="tolerance must lie"):
        ideal_gradient(flows(CondOT())[0], LOSS, randn(2, 3), 0.4, tolerance=tolerance)


def test_bad_states_times_and_losses_are_refused():
    for flow in flows(CondOT()):
        with pytest.raises(ValueError, match="x must be finite"):
            ideal_gradient(flow, LOSS, torch.full((2, 3), torch.nan).double(), 0.4)
        with pytest.raises(ValueError, match="t must"):
            ideal_gradient(flow, LOSS, randn(2, 3), f64([0.1, 0.2, 0.3]))
        with pytest.raises(ValueError, match="loss must return one value per sample"):
            ideal_gradient(flow, lambda x: x.sum(), randn(2, 3), 0.4)


def test_relative_of_zero_over_zero_is_zero():
    zero = torch.zeros(2, 3)
    assert torch.equal(reference.relative(zero, zero), torch.zeros(2))


def test_the_bound_covers_how_far_the_way_back_ends_from_where_the_way_there_began():
    # A flow that contracts by e^12: its way back magnifies round-off, whatever two tolerances say of the gradient.
    flow = from_velocity(lambda x, t: -12 * x, CondOT())
    result = ideal_gradient(flow, losses.Linear(torch.ones(3)), randn(4, 3), 0.0, max_error=math.inf)
    round_trip = result.diagnostics["round_trip"]
    assert round_trip.min() > 1e-10
    assert (result.error_bound >= round_trip).all()


def test_the_exact_tiers_bound_covers_the_stiffness_of_the_loss():
    # Data of deviation 1e-6 at a target 1e-7 away: the end point hardly depends on x, and the loss gradient, which is
    # its distance from the target, loses seven digits to the round-off of the end point.
    mean, variance, t = f64([0.7, -1.3, 0.4]), 1e-12, 0.3
    flow = GaussianFlow(mean, variance * torch.eye(3, dtype=torch.float64), CondOT())
    x, target = randn(5, 3), mean * (1 + 1e-7)
    result = ideal_gradient(flow, losses.HalfSquaredDistance(target), x, t, max_error=math.inf)
    with mpmath.workdps(40):
        gain = mpmath.sqrt(
            mpmath.mpf(variance) / (mpmath.mpf(t) ** 2 * mpmath.mpf(variance) + (1 - mpmath.mpf(t)) ** 2)
        )
        for row, gradient, bound in zip(x.tolist(), result.gradient.tolist(), result.error_bound.tolist(), strict=True):
            parts = zip(row, mean.tolist(), target.tolist(), strict=True)
            exact = [gain * (m + gain * (value - mpmath.mpf(t) * m) - goal) for value, m, goal in parts]
            error = mpmath.norm([g - e for g, e in zip(gradient, exact, strict=True)]) / mpmath.norm(exact)
            assert 1e-11 < error <= bound < 1e-4
    # The end point is the closed form's, which may be off by more than its last digit.
    moved = flow.exact_endpoint_vjp(x, f64(t))[1](result.endpoint * (1 + 32 * EPS) - target)
    assert (relative_l2(moved, result.gradient) <= result.error_bound).all()
