"""Flows made from functions, and flows along other paths, against the analytic flow they stand for."""

import pytest
import torch

from analysis.flow import PredictionFlow, Reparametrized
from analysis.paths import PREDICTIONS, CondOT, Cosine
from tests.support.problems import EPS, FromFormulas, distance, every_path, f64, randn, random_mixture, states
from toy_models import MixtureFlow

PATHS = every_path()
T = f64([0.2, 0.4, 0.6, 0.8, 0.9])


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", PATHS)
def test_a_wrapped_prediction_gives_every_other_with_its_products(name, prediction):
    path, mixture, v = PATHS[name], random_mixture(3, 3), randn(5, 3, seed=1)
    flow = MixtureFlow(mixture, path)
    learned, x = PredictionFlow(FromFormulas(flow, prediction), path, prediction), states(mixture, path, T, 5)
    for to in PREDICTIONS:
        readout = path.readout(to, T)
        value, pull = flow.predict_vjp(x, T, readout)
        # Conversions cancel: by a factor of up to 100 on the variance-exploding path.
        tolerance = 5000 * EPS
        assert distance(learned.named(to, x, T), value) <= tolerance
        assert distance(learned.predict_vjp(x, T, readout)[0], value) <= tolerance
        assert distance(learned.predict_vjp(x, T, readout)[1](v), pull(v)) <= tolerance
        # The leading term of greedy's error pushes dual numbers through the flow; these Jacobians are symmetric.
        out = torch.func.jvp(lambda y, r=readout: learned.predict(y, T, r), (x,), (v,))[1]
        assert distance(out, pull(v)) <= tolerance


@pytest.mark.parametrize("old", PATHS)
@pytest.mark.parametrize("new", ["condot", "cosine", "ve"])
@pytest.mark.parametrize("move", [PredictionFlow.with_path, Reparametrized])
def test_a_wrapped_flow_along_another_path_is_the_flow_of_that_path(old, new, move):
    mixture, v = random_mixture(3, 3), randn(5, 3, seed=2)
    learned = PredictionFlow(FromFormulas(MixtureFlow(mixture, PATHS[old]), "velocity"), PATHS[old])
    moved, expected = move(learned, PATHS[new]), MixtureFlow(mixture, PATHS[new])
    # Times that both paths reach, whose noise ends at zeta = 0.107 on the user's path.
    t = PATHS[new].time_from_zeta(f64([0.3, 0.4, 0.5, 0.8, 1.2]))
    x = states(mixture, PATHS[new], t, 5)
    # On the variance-exploding path 1 - t = zeta/80 has lost as much, and its velocity is 80 times the noise.
    tolerance = 2e4 * EPS if "ve" in (old, new) else 5000 * EPS
    for prediction in ("target", "source", "velocity"):
        readout = PATHS[new].readout(prediction, t)
        value, pull = expected.predict_vjp(x, t, readout)
        assert distance(moved.predict(x, t, readout), value) <= tolerance
        found, moved_pull = moved.predict_vjp(x, t, readout)
        assert distance(found, value) <= tolerance
        assert distance(moved_pull(v), pull(v)) <= tolerance


def test_moving_on_and_back_loses_nothing():
    mixture, x = random_mixture(3, 3), randn(5, 3, seed=3)
    learned = PredictionFlow(FromFormulas(MixtureFlow(mixture, Cosine()), "velocity"), Cosine())
    for flow in (learned, Reparametrized(learned, CondOT())):
        back = flow.with_path(CondOT()).with_path(flow.path)
        assert torch.equal(back.velocity(x, T), flow.velocity(x, T))
        with pytest.raises(TypeError, match=r"path must be an analysis\.paths\.AffinePath, .* got str .cosine."):
            flow.with_path("cosine")


@pytest.mark.parametrize("old", ["condot", "cosine", "polynomial", "vp_linear"])
def test_another_path_is_regular_at_time_zero(old):
    mixture, x = random_mixture(3, 3), randn(5, 3, seed=3)
    learned = PredictionFlow(FromFormulas(MixtureFlow(mixture, PATHS[old]), "target"), PATHS[old], "target")
    other = CondOT() if old != "condot" else Cosine()
    found = learned.with_path(other).target(x, 0.0)
    # Linear VP starts at zeta = 152, not infinity: there the target still depends on x, by 1/152.
    tolerance = 64 * EPS if old != "vp_linear" else 0.1
    assert distance(found, MixtureFlow(mixture, other).target(x, 0.0)) <= tolerance


def test_times_outside_the_trained_range_are_moved_to_its_ends():
    mixture, x = random_mixture(3, 3), randn(5, 3, seed=4)
    seen = []

    def denoiser(x, t):
        seen.append(t)
        return MixtureFlow(mixture, CondOT()).target(x, t)

    flow = PredictionFlow(denoiser, CondOT(), "target", t_min=0.3, t_max=0.7)
    flow.target(x, T)
    assert torch.equal(seen[0], T.clamp(0.3, 0.7))


def test_functions_see_one_time_per_sample_in_the_dtype_of_x():
    seen = []

    def velocity(x, t):
        seen.append(t)
        return x

    flow = PredictionFlow(velocity, CondOT())
    flow.velocity(torch.zeros(5, 3), 0.25)
    assert torch.equal(seen[0], torch.full((5,), 0.25))
    assert seen[0].dtype == torch.float32
    flow.velocity(torch.zeros(5, 3, dtype=torch.float64), T)
    assert torch.equal(seen[1], T)


def test_predictions_record_no_graph_unless_asked():
    layer = torch.nn.Linear(3, 3).double()
    flow = PredictionFlow(lambda x, t: layer(x), CondOT())
    x = randn(5, 3)
    assert not flow.velocity(x, 0.5).requires_grad
    assert flow.velocity(x.clone().requires_grad_(), 0.5).requires_grad


@pytest.mark.parametrize("blocks", [[0.2, 0.2, 0.2, 0.7, 0.7, 0.7], [0.2, 0.7, 0.2, 0.7, 0.2, 0.7], [0.2] * 5 + [0.7]])
def test_repeated_times_agree_with_one_by_one(blocks):
    mixture, t, x, v = random_mixture(3, 2), f64(blocks), randn(6, 2, seed=5), randn(6, 2, seed=6)
    flow = MixtureFlow(mixture, Cosine())
    readout = flow.path.readout("velocity", t)
    value, pull = flow.predict_vjp(x, t, readout)
    for i in range(6):
        one = flow.path.readout("velocity", t[i])
        one_value, one_pull = flow.predict_vjp(x[i : i + 1], t[i], one)
        assert distance(value[i : i + 1], one_value) <= 64 * EPS
        assert distance(flow.predict(x, t, readout)[i : i + 1], one_value) <= 64 * EPS
        assert distance(pull(v)[i : i + 1], one_pull(v[i : i + 1])) <= 256 * EPS
        trace = flow.divergence(x[i : i + 1], t[i], one)
        torch.testing.assert_close(flow.divergence(x, t, readout)[i : i + 1], trace, rtol=0, atol=256 * EPS)


@pytest.mark.parametrize("prediction", ["velocity", "target", "source", "score"])
def test_a_flow_moved_to_another_path_predicts_what_the_flow_built_there_does(prediction):
    mixture = random_mixture(3, 4)
    there = MixtureFlow(mixture, Cosine())
    moved = Reparametrized(MixtureFlow(mixture, CondOT()), Cosine())
    x, t = randn(5, 4), torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    torch.testing.assert_close(getattr(moved, prediction)(x, t), getattr(there, prediction)(x, t))
