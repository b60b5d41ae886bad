"""Guidance gradients in place of the exact score.

For one Gaussian TMPD's gradient is the exact score, so that its samples must be those of the oracle.
"""

import pytest
import torch

from analysis.guidance import SAMPLERS
from analysis.operators import InverseProblem, from_matrix
from analysis.paths import CondOT
from analysis.settings import Variant
from tests.support.problems import f64, randn, random_mixture
from toy_models import MixtureFlow
from toy_models.posteriors.measurements import measured_batch
from toy_models.posteriors.replaced_score import Replacement

A = f64([[1.0, 0.5, 0.0], [0.0, -0.3, 1.0]])
NOISE, STEPS, WHOLE = 0.3, 16, (0.0, 1.0)


def batch(components, count=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixture, problem = random_mixture(components, 3), InverseProblem(from_matrix(A), NOISE)
    clean = mixture.sample(count, generator)
    return measured_batch(mixture, problem, clean, generator, members=2, exact=5)


def flow_of(components):
    return MixtureFlow(random_mixture(components, 3), CondOT())


@pytest.mark.parametrize("scale", [1.0, None])
def test_where_a_gradient_is_the_score_its_samples_are_the_oracle_s(scale):
    reported, flow, window = batch(1), flow_of(1), (1 / STEPS, 1.0)
    found = replacement("tmpd", window, scale).samples(flow, reported)  # exact for one Gaussian
    options = {"score": reported.score(flow.path), "steps": STEPS}
    oracle = SAMPLERS["oracle_ode"](flow, reported.loss(), reported.x0, **options)
    torch.testing.assert_close(found.x, oracle.x)
    greedy = replacement("greedy", window, scale).samples(flow, reported)
    assert (greedy.x - oracle.x).norm() > 0.01 * oracle.x.norm()


def test_a_replacement_has_the_score_s_length_and_is_zero_at_time_zero():
    reported, flow, x = batch(3), flow_of(3), randn(8, 3)
    exact = reported.score(flow.path)
    matched, one, three = (replacement("end_to_end", WHOLE, s).score(flow, reported) for s in (None, 1.0, 3.0))
    for t in f64([1 / STEPS, 0.5]):
        torch.testing.assert_close(*(torch.linalg.vector_norm(v(x, t), dim=1) for v in (matched, exact)))
    assert not one(x, f64(0.0)).any()
    torch.testing.assert_close(three(x, f64(0.5)), 3 * one(x, f64(0.5)))


def replacement(name, window, scale=None):
    options = {"steps": 2, "solver": "euler"} if name == "end_to_end" else {}
    return Replacement(Variant.of(name, **options), window, STEPS, scale)


def test_the_scale_is_the_best_one_of_those_given():
    tuning, flow = batch(1, count=3, seed=1), flow_of(1)
    assert replacement("tmpd", WHOLE).tuned(flow, tuning, (0.01, 1.0, 30.0)).scale == 1.0
    assert replacement("tmpd", WHOLE).tuned(flow, tuning, (30.0,)).scale == 30.0
