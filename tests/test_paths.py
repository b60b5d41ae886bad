import math

import pytest
import torch
from helpers import EPS, distance, every_path, f64, random_mixture, states, user_path

from analysis.paths import PREDICTIONS, AffinePath, Cosine, LinearVP, Polynomial, UserPath, VarianceExploding
from toy_models import MixtureFlow

PATHS = every_path()
STANDARD = ["condot", "cosine", "vp_linear", "ve", "polynomial"]
ZERO_ALPHA = ["condot", "cosine", "polynomial", "user"]  # alpha(0) = 0
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


@pytest.mark.parametrize("name", PATHS)
def test_conversions_agree_with_a_mixtures_own_predictions(name):
    path, mixture = PATHS[name], random_mixture(3, 5)
    flow = MixtureFlow(mixture, path)
    t = f64([0.2, 0.35, 0.6, 0.9])
    x = states(mixture, path, t, 4)
    for source in PREDICTIONS:
        for to in PREDICTIONS:
            found = path.convert(flow.named(source, x, t), x, t, source, to)
            # Cancellation: |x| against |sigma| or alpha, up to 80 on the variance-exploding path, in 20 operations.
            assert distance(found, flow.named(to, x, t)) <= 2000 * EPS, (source, to)


@pytest.mark.parametrize("name", STANDARD)
@pytest.mark.parametrize("to", ["velocity", "source", "score"])
def test_target_does_not_determine_the_noise_at_time_one(name, to):
    x = torch.ones(2, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="t must lie"):
        PATHS[name].convert(x, x, 1.0, "target", to)


@pytest.mark.parametrize("name", ZERO_ALPHA)
@pytest.mark.parametrize("to", ["velocity", "target"])
def test_noise_does_not_determine_the_target_at_time_zero(name, to):
    x = torch.ones(2, 3, dtype=torch.float64)
    for source in ("source", "score"):
        with pytest.raises(ValueError, match="t must lie"):
            PATHS[name].convert(x, x, 0.0, source, to)


def test_conversion_names_the_offending_time_among_good_ones():
    x, t = torch.ones(3, 2, dtype=torch.float64), f64([0.5, 1.0, 0.2])
    with pytest.raises(ValueError, match=r"t in \[1\.0\]"):
        Cosine().convert(x, x, t, "target", "velocity")


@pytest.mark.parametrize("t", [0.0, 1.0])
@pytest.mark.parametrize("prediction", ["target", "source"])
def test_a_prediction_determines_itself_at_both_ends(path, prediction, t):
    value, x = f64([[1.0, -2.0, 3.0]]), torch.ones(1, 3, dtype=torch.float64)
    assert distance(path.convert(value, x, t, prediction, prediction), value) <= 4 * EPS


@pytest.mark.parametrize("name", ["condot", "cosine", "ve", "polynomial"])
def test_velocity_at_time_one_determines_target_and_source(name):
    path, mixture = PATHS[name], random_mixture(2, 3)
    flow, x = MixtureFlow(mixture, path), mixture.sample(5, torch.Generator().manual_seed(0))
    for to in ("target", "source"):
        found = path.convert(flow.velocity(x, 1.0), x, 1.0, "velocity", to)
        assert (found - flow.named(to, x, 1.0)).abs().max() <= 64 * EPS * x.abs().max()


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


def test_conversion_refuses_times_that_are_not_one_per_sample():
    x = torch.ones(5, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="t must"):
        Cosine().convert(x, x, torch.full((3,), 0.5, dtype=torch.float64), "target", "source")


def test_unknown_prediction_lists_the_known_ones():
    with pytest.raises(ValueError, match="prediction must be one of score, source, target, velocity"):
        Cosine().readout("noise", 0.5)


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
    with pytest.raises(ValueError, match="beta_min, beta_max"):
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
