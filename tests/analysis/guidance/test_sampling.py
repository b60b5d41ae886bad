"""Samples in a line, against the sampler and the solve that they stand for."""

import pytest
import torch

from analysis import losses, solvers
from analysis.guidance import SAMPLERS, sample
from analysis.paths import CondOT
from tests.support.guidance import LOSS, MIXTURE, X0
from tests.support.problems import distance, f64
from toy_models import MixtureFlow

FLOW = MixtureFlow(MIXTURE, CondOT())


def test_without_a_loss_it_is_the_solve():
    plan = solvers.plan("ddim", FLOW.path, solvers.uniform_grid(f64(0.0), f64(1.0), 12))
    found = sample(FLOW, X0, steps=12)
    assert distance(found.x, solvers.solve(FLOW, X0, plan)) <= 1e-12
    assert found.value.tolist() == [0.0] * 6
    assert (found.cost.evaluations, found.cost.vjps) == (12, 0)


def test_with_a_loss_it_is_posterior_guidance():
    options = {"steps": 6, "scale": 0.5}
    expected = SAMPLERS["posterior_guidance"](FLOW, LOSS, X0, lookahead="midpoint", **options)
    found = sample(FLOW, X0, LOSS, lookahead="midpoint", **options)
    assert torch.equal(found.x, expected.x)
    assert found.value.median() < sample(FLOW, X0, LOSS, scale=0.0).value.median()


def test_an_estimator_comes_with_its_options_and_a_rule_may_be_named():
    found = sample(FLOW, X0, LOSS, steps=3, lookahead=("adaptive", {"tolerance": 0.1}), rule="normalised", scale=0.1)
    assert not found.failed.any()


def test_what_the_sampler_refuses_is_refused():
    with pytest.raises(ValueError, match="lookahead must be one of"):
        sample(FLOW, X0, LOSS, lookahead="shooting")
    with pytest.raises(TypeError, match="posterior_guidance"):
        sample(FLOW, X0, LOSS, speed=3)
    with pytest.raises(ValueError, match="steps must"):
        sample(FLOW, X0, steps=0)


def test_a_loss_that_is_no_likelihood_is_taken():
    found = sample(FLOW, X0, losses.HalfSquaredDistance(torch.zeros(3).double()), steps=8, scale=0.2)
    assert torch.isfinite(found.x).all()
