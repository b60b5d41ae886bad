"""The low-rank flow that remembers times, against the one that does not, and against full covariances."""

import pytest
import torch

from analysis.paths import PREDICTIONS, CondOT
from tests.support.low_rank import random_low_rank
from tests.support.problems import distance, every_path, f64, randn, states
from toy_models.mixtures import remembered
from toy_models.mixtures.gaussian import MixtureFlow
from toy_models.mixtures.low_rank import LowRankMixtureFlow
from toy_models.mixtures.remembered import RememberedLowRankFlow

PATHS = every_path()
MIXTURE = random_low_rank(4, 5, 2)


def pair(path):
    return RememberedLowRankFlow(MIXTURE, path), LowRankMixtureFlow(MIXTURE, path)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("when", [0.0, 0.3, 1.0])
def test_value_and_product_are_those_of_full_covariances(name, when):
    path, t, v = PATHS[name], f64(when), randn(7, 5, seed=9)
    flow, x = pair(path)[0], states(MIXTURE, path, t, 7)
    dense = MixtureFlow(MIXTURE.dense(), path)
    finite = [one for one in PREDICTIONS if float(path.sigma(t)) > 0 or one == "target"]
    for readout in (*(path.readout(one, t) for one in finite), path.combination(0.7 + t, -1.3 * t, t)):
        for _ in range(2):  # computed, and remembered
            value, pull = flow.predict_vjp(x, t, readout)
            expected, expected_pull = dense.predict_vjp(x, t, readout)
            torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(pull(v), expected_pull(v), rtol=1e-12, atol=1e-12)


def test_leading_axes_and_times_of_each_state_are_as_in_the_base_class():
    flow, base = pair(CondOT())
    x, v = randn(2, 3, 5), randn(2, 3, 5, seed=1)
    for t in (f64(0.4), f64([[0.3], [0.8]]), torch.linspace(0.1, 0.9, 6).double().reshape(2, 3)):
        readout = flow.path.readout("velocity", t)
        (value, pull), (expected, expected_pull) = (one.predict_vjp(x, t, readout) for one in (flow, base))
        assert value.shape == (2, 3, 5)
        assert distance(value.flatten(0, 1), expected.flatten(0, 1)) <= 1e-13
        assert distance(pull(v).flatten(0, 1), expected_pull(v).flatten(0, 1)) <= 1e-12


def test_a_time_is_decomposed_once_and_the_oldest_is_forgotten(monkeypatch):
    monkeypatch.setattr(remembered, "TIMES", 3)
    counted = []
    known = RememberedLowRankFlow._decomposed
    monkeypatch.setattr(RememberedLowRankFlow, "_decomposed", lambda self, t: counted.append(t) or known(self, t))
    flow, x = pair(CondOT())[0], randn(7, 5)
    for t in (0.1, 0.2, 0.1, 0.3, 0.4, 0.1, 0.2):
        flow.predict_vjp(x, f64(t), flow.path.readout("velocity", f64(t)))
    assert counted == [0.1, 0.2, 0.3, 0.4, 0.2]


def test_the_product_is_exact_where_one_component_has_all_the_weight():
    """There the spread of the components' means has no part, however far the state is from them."""
    mixture = random_low_rank(3, 6, 2, thin=1e-4)
    flow = RememberedLowRankFlow(mixture, CondOT())
    x, v, t = 30 * randn(7, 6), randn(7, 6, seed=2), f64(0.999)
    readout = flow.path.readout("velocity", t)
    expected = MixtureFlow(mixture.dense(), CondOT()).predict_vjp(x, t, readout)[1](v)
    assert distance(flow.predict_vjp(x, t, readout)[1](v), expected) <= 1e-9
