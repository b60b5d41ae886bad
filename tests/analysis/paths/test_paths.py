"""Schedules, their derivatives, coordinates and their inverses.

The truths are autograd and central differences for derivatives, ratios of the schedules for coordinates, round trips
for inverses, and a user's path whose derivatives are also given.
"""

import math

import mpmath as mp
import pytest
import torch

from analysis import checks
from analysis.flow import from_velocity
from analysis.gradients import end_to_end
from analysis.losses import HalfSquaredDistance
from analysis.paths import AffinePath, CondOT, Cosine, LinearVP, Polynomial, UserPath, VarianceExploding
from tests.support.problems import EPS, every_path, random_mixture, user_path
from toy_models import MixtureFlow

PATHS = every_path()
STANDARD = ["condot", "cosine", "vp_linear", "ve", "polynomial"]
INTERIOR = torch.linspace(0.03, 0.97, 23, dtype=torch.float64)
SCHEDULES = [("alpha", "d_alpha"), ("sigma", "d_sigma")]


@pytest.fixture(params=PATHS)
def path(request):
    return PATHS[request.param]


@pytest.mark.parametrize(("schedule", "slope"), SCHEDULES)
def test_derivatives_agree_with_autograd(path, schedule, slope):
    t = INTERIOR.clone().requires_grad_()
    # Adding 0 t lets a constant schedule have a gradient too.
    (expected,) = torch.autograd.grad((getattr(path, schedule)(t) + 0 * t).sum(), t)
    # A few operations at either side: some tens of round-offs of the largest value.
    assert (getattr(path, slope)(INTERIOR) - expected).abs().max() <= 32 * EPS * expected.abs().max()


@pytest.mark.parametrize(("schedule", "slope"), SCHEDULES)
def test_derivatives_agree_with_central_differences(path, schedule, slope):
    f, h = getattr(path, schedule), EPS ** (1 / 3)
    expected = (f(INTERIOR + h) - f(INTERIOR - h)) / (2 * h)
    # Both the truncation, h^2 f'''/6, and the round-off, eps f/h, scale with h^2; f''' reaches 1e3 f on linear VP.
    scale = max(float(f(INTERIOR).abs().max()), float(expected.abs().max()))
    assert (getattr(path, slope)(INTERIOR) - expected).abs().max() <= 1e3 * h**2 * scale


def test_given_and_automatic_derivatives_of_a_user_path_agree():
    given, automatic = user_path(), user_path(derivatives=False)
    for slope in ("d_alpha", "d_sigma"):
        torch.testing.assert_close(
            getattr(given, slope)(INTERIOR), getattr(automatic, slope)(INTERIOR), rtol=8 * EPS, atol=0
        )
    constant = UserPath(torch.ones_like, lambda t: 2 - 2 * t)
    assert torch.equal(constant.d_alpha(INTERIOR), torch.zeros_like(INTERIOR))


def test_coordinates_are_ratios_of_the_schedules(path):
    alpha, sigma = path.alpha(INTERIOR), path.sigma(INTERIOR)
    torch.testing.assert_close(path.gamma(INTERIOR), alpha / sigma, rtol=4 * EPS, atol=0)
    torch.testing.assert_close(path.zeta(INTERIOR), sigma / alpha, rtol=4 * EPS, atol=0)
    torch.testing.assert_close(path.log_snr(INTERIOR), torch.log(alpha / sigma), rtol=0, atol=16 * EPS)


@pytest.mark.parametrize("coordinate", ["zeta", "gamma", "log_snr"])
def test_inverses_round_trip(path, coordinate):
    value, inverse = getattr(path, coordinate), getattr(path, f"time_from_{coordinate}")
    grid = INTERIOR.reshape(1, -1)
    # Round-off in the coordinate (log-SNR: of up to 6, absolute) moves t by that over |d log zeta/dt| >= 1.
    torch.testing.assert_close(inverse(value(grid)), grid, rtol=0, atol=64 * EPS)


@pytest.mark.parametrize("name", PATHS)
def test_inverses_reach_both_ends_exactly(name):
    path = PATHS[name]
    for t in (0.0, 1.0):
        assert abs(float(path.time_from_zeta(path.zeta(t))) - t) <= 16 * EPS
        assert abs(float(path.time_from_gamma(path.gamma(t))) - t) <= 16 * EPS
        assert abs(float(path.time_from_log_snr(path.log_snr(t))) - t) <= 16 * EPS


def test_values_beyond_the_range_are_clamped(path):
    assert abs(float(path.time_from_zeta(torch.inf))) <= 16 * EPS
    assert abs(float(path.time_from_zeta(0.0)) - 1) <= 16 * EPS
    assert abs(float(path.time_from_log_snr(-torch.inf))) <= 16 * EPS


@pytest.mark.parametrize("bad", [-0.1, float("nan")])
def test_bad_zeta_is_refused(path, bad):
    with pytest.raises(ValueError, match="zeta must be"):
        path.time_from_zeta(bad)


ENDS = {  # alpha, sigma, alpha', sigma' at t = 0 and at t = 1
    "condot": [(0, 1), (1, 0), (1, 1), (-1, -1)],
    "cosine": [(0, 1), (1, 0), (math.pi / 2, 0), (0, -math.pi / 2)],
    "vp_linear": [
        (math.exp(-5.025), 1),
        (math.sqrt(-math.expm1(-10.05)), 0),
        (10 * math.exp(-5.025), 0.05),
        (-10 * math.exp(-10.05) / math.sqrt(-math.expm1(-10.05)), -math.inf),
    ],
    "ve": [(1, 1), (80, 0), (0, 0), (-80, -80)],
    "polynomial": [(0, 1), (1, 0), (0, 2), (0, -2)],
}


@pytest.mark.parametrize("name", STANDARD)
def test_schedules_at_both_ends(name):
    for schedule, expected in zip(("alpha", "sigma", "d_alpha", "d_sigma"), ENDS[name], strict=True):
        for t, value in zip((0.0, 1.0), expected, strict=True):
            found = float(getattr(PATHS[name], schedule)(t))
            assert found == value or abs(found - value) <= 8 * EPS * abs(value), (schedule, t)


@pytest.mark.parametrize("name", STANDARD)
def test_noise_keeps_its_relative_accuracy_as_it_vanishes(name):
    # One time step below one: 1 - alpha^2 or 1 - t^n would have lost all digits of sigma.
    v = mp.mpf(2) ** -45
    expected = {
        "condot": v,
        "cosine": mp.sin(mp.pi / 2 * v),
        "vp_linear": mp.sqrt(-mp.expm1(-2 * v * (v * mp.mpf(19.9) / 4 + mp.mpf(0.1) / 2))),
        "ve": 80 * v,
        "polynomial": 1 - (1 - v) ** 2,
    }
    assert float(PATHS[name].sigma(float(1 - v))) == pytest.approx(float(expected[name]), rel=16 * EPS)


def test_coordinates_are_infinite_exactly_where_a_schedule_vanishes(path):
    for t in (0.0, 1.0):
        assert bool(torch.isinf(path.gamma(t))) == bool(path.sigma(t) == 0)
        assert bool(torch.isinf(path.zeta(t))) == bool(path.alpha(t) == 0)
        assert not bool(torch.isnan(path.log_snr(t)))
    assert path.zeta(1.0) == path.sigma(1.0) / path.alpha(1.0)


def test_dtype_follows_tensors_and_floats_are_float64(path):
    for name in ("alpha", "sigma", "d_alpha", "d_sigma", "gamma", "zeta", "log_snr"):
        low, high = getattr(path, name)(INTERIOR.float()), getattr(path, name)(INTERIOR)
        assert low.dtype == torch.float32
        # float32 round-off in t is amplified near the ends: by 1/t or 1/(1 - t), here up to 33.
        assert (low - high).abs().max() <= 100 * torch.finfo(torch.float32).eps * high.abs().max()
        assert getattr(path, name)(0.5).dtype == torch.float64


@pytest.mark.parametrize("bad", [-1e-9, 1 + 1e-9, 3, float("nan"), torch.tensor([0.5, float("nan")])])
def test_times_outside_the_unit_interval_are_refused(path, bad):
    for name in ("alpha", "sigma", "d_alpha", "d_sigma", "gamma", "zeta", "log_snr"):
        with pytest.raises(ValueError, match=r"t must lie in \[0, 1\]"):
            getattr(path, name)(bad)


@pytest.mark.parametrize("shape", [(5, 1), (3,), (5, 3), (1, 5)])
def test_times_of_the_wrong_shape_are_refused(shape):
    flow, x = MixtureFlow(random_mixture(2, 3), Cosine()), torch.zeros(5, 3, dtype=torch.float64)
    t = torch.full(shape, 0.5, dtype=torch.float64)
    for call in (flow.velocity, flow.target, flow.source, flow.score, flow.log_prob, flow.posterior_covariance):
        with pytest.raises(ValueError, match=r"t must be a float or have shape \(5,\)"):
            call(x, t)


@pytest.mark.parametrize(
    ("alpha", "sigma", "message"),
    [
        (lambda t: t / t, lambda t: 1 - t, "user_alpha must be finite"),
        (lambda t: t, lambda t: 1 / t, "user_sigma must be finite"),
        (lambda t: t - 0.5, lambda t: 1 - t, "non-negative"),
        (lambda t: t, lambda t: 2 * t + 0.1 * t**2, "strictly decreasing"),
        (lambda t: 1 + 0 * t, lambda t: 1 + 0 * t, "strictly decreasing"),
        (lambda t: t.sum(), lambda t: 1 - t, "elementwise"),
        (lambda t: t[:5], lambda t: 1 - t, "elementwise"),
        (lambda t: 1.0, lambda t: 1 - t, "user_alpha"),
    ],
)
def test_bad_user_paths_are_refused(alpha, sigma, message):
    with pytest.raises(ValueError, match=message):
        UserPath(alpha, sigma)


@pytest.mark.parametrize("build", [lambda: LinearVP(20, 0.1), lambda: LinearVP(0, 20)])
def test_bad_noise_rates_are_refused(build):
    with pytest.raises(ValueError, match="beta_min"):
        build()


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, math.nan])
def test_bad_sigma_max_and_degree_are_refused(bad):
    with pytest.raises(ValueError, match="sigma_max"):
        VarianceExploding(bad)
    with pytest.raises(ValueError, match="degree"):
        Polynomial(bad)


def test_a_subclass_without_schedules_says_what_is_missing():
    with pytest.raises(TypeError, match="must define _alpha"):
        AffinePath().alpha(0.5)


def test_times_that_follow_from_checked_ones_are_not_checked_again(monkeypatch):
    asked, check = [], checks.time
    monkeypatch.setattr(checks, "time", lambda *given, **options: asked.append(given) or check(*given, **options))
    flow = from_velocity(lambda x, t: x * t[:, None], CondOT()).with_path(Cosine())
    x, t = torch.ones(5, 3, dtype=torch.float64), torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    end_to_end(flow, HalfSquaredDistance(x), x, t, steps=8, solver="rk4")
    assert len(asked) <= 3  # t, the horizon, and a constant of the loop at most


def test_checks_are_back_when_an_estimator_is_done():
    def wrong(x):
        raise RuntimeError("this loss fails")

    flow, x = from_velocity(lambda x, t: x * t[:, None], CondOT()), torch.ones(5, 3, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="this loss fails"):
        end_to_end(flow, wrong, x, 0.5, steps=2)
    for bad in (torch.tensor(1.5), torch.tensor([0.5, -0.1])):
        with pytest.raises(ValueError, match=r"t must lie in \[0, 1\]"):
            flow.path.alpha(bad)


@pytest.mark.parametrize("kind", ["user", "user_autograd", "flat"])
def test_a_users_inverse_has_the_derivative_of_the_inverse_function(kind):
    # The last has no slope at the data: zeta falls to 0.05 with sqrt(1 - t).
    flat = UserPath(torch.sqrt, lambda t: (1 - t).square() + 0.05)
    path, t = PATHS.get(kind, flat), torch.linspace(0.05, 0.95, 7, dtype=torch.float64)
    zeta = path.zeta(t)
    slope = (path.d_sigma(t) * path.alpha(t) - path.sigma(t) * path.d_alpha(t)) / path.alpha(t).square()
    forward = torch.func.jvp(path.time_from_zeta, (zeta,), (torch.ones_like(zeta),))[1]
    leaf = zeta.clone().requires_grad_()
    backward = torch.autograd.grad(path.time_from_zeta(leaf).sum(), leaf)[0]
    torch.testing.assert_close(forward, 1 / slope, rtol=1e-12, atol=0)
    torch.testing.assert_close(backward, forward, rtol=1e-14, atol=0)


def test_a_users_inverse_finds_every_node_of_its_table_and_what_lies_between():
    path = PATHS["user"]
    times = path._table[0][::37]
    for t in (times, (times[1:] + times[:-1]) / 2, times[5]):
        torch.testing.assert_close(path.time_from_zeta(path.zeta(t)), t, rtol=0, atol=64 * EPS)
