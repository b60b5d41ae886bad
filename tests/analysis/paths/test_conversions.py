"""Conversions between velocity, target, source and score.

The truth is a Gaussian mixture, each of whose four predictions is a readout in closed form; ``convert`` uses none of
them. At the ends of time, where a prediction leaves another undetermined, the truth is derived by hand.
"""

import pytest
import torch

from analysis.paths import PREDICTIONS, Cosine
from tests.support.problems import EPS, distance, every_path, f64, random_mixture, states
from toy_models import MixtureFlow

PATHS = every_path()
STANDARD = ["condot", "cosine", "vp_linear", "ve", "polynomial"]
ZERO_ALPHA = ["condot", "cosine", "polynomial", "user"]  # alpha(0) = 0


@pytest.fixture(params=PATHS)
def path(request):
    return PATHS[request.param]


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


@pytest.mark.parametrize(
    ("name", "to"),
    # The polynomial path stands still at t = 0, and its velocity is zero whatever the target.
    [(name, to) for name in ZERO_ALPHA for to in ("velocity", "target") if (name, to) != ("polynomial", "velocity")],
)
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


def test_conversion_refuses_times_that_are_not_one_per_sample():
    x = torch.ones(5, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="t must"):
        Cosine().convert(x, x, torch.full((3,), 0.5, dtype=torch.float64), "target", "source")


def test_unknown_prediction_lists_the_known_ones():
    with pytest.raises(ValueError, match="prediction must be one of score, source, target, velocity"):
        Cosine().readout("noise", 0.5)


@pytest.mark.parametrize("name", STANDARD)
@pytest.mark.parametrize("have", ["target", "velocity"])
def test_without_noise_the_state_alone_gives_any_multiple_of_the_target(name, have):
    # sigma(1) = 0, so x = alpha x1hat. Neither reading of have is needed, and linear VP's velocity is infinite there.
    path, t = PATHS[name], f64(1.0)
    want = path.combination(f64(0.7), f64(0.0), t)
    on_value, on_x = path.change_readout(t, path.readout(have, t), want)
    assert (float(on_value), float(on_x)) == pytest.approx((0, 0.7 / float(path.alpha(t))), abs=1e-15)


@pytest.mark.parametrize("name", ZERO_ALPHA)
def test_without_data_the_state_alone_gives_any_multiple_of_the_source(name):
    path, t = PATHS[name], f64(0.0)
    want = path.combination(f64(0.0), f64(0.7), t)
    on_value, on_x = path.change_readout(t, path.readout("source", t), want)
    assert (float(on_value), float(on_x)) == pytest.approx((0, 0.7 / float(path.sigma(t))), abs=1e-15)


def test_the_velocity_of_linear_vp_at_time_one_leaves_the_target_to_the_state():
    x = f64([[1.0, -2.0, 3.0]])
    converted = PATHS["vp_linear"].convert(torch.full_like(x, 5.0), x, 1.0, "velocity", "target")
    assert distance(converted, x) <= 4 * EPS


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("prediction", ["target", "source"])
def test_a_readout_is_not_changed_to_itself(path, prediction, t):
    readout = path.readout(prediction, f64(t))
    assert [float(c) for c in path.change_readout(f64(t), readout, readout)] == [1, 0]


def test_states_are_data_and_noise_weighted_time_after_time(path):
    data, noise = f64([[1.0, 2.0, 3.0], [-1.0, 0.0, 4.0]]), f64([[0.5, -1.0, 2.0], [2.0, 1.0, 0.0]])
    times = f64([0.25, 0.75, 1.0])
    x = path.states(times, data, noise)
    expected = [path.alpha(float(t)) * data + path.sigma(float(t)) * noise for t in times]
    assert distance(x, torch.cat(expected)) <= 4 * EPS
