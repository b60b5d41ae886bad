"""Covariances of measurements, decomposed as what they are: the low-rank form against the dense one."""

import pytest
import torch

from analysis.operators import inverse_problem
from analysis.paths import CondOT
from tests.support.low_rank import random_low_rank
from tests.support.problems import distance, f64, rand, randn
from toy_models import MixtureFlow
from toy_models.posteriors.dense import likelihood_score
from toy_models.posteriors.evidence import Dense, Factored, evidence, separate
from toy_models.posteriors.low_rank import LowRankLikelihood

SEPARATE = ("box_inpainting", "random_inpainting", "super_resolution_2", "super_resolution_4")
MIXTURE = random_low_rank(3, 64, 4)
EPS = torch.finfo(torch.float64).eps


def likelihood(name, noise=0.3):
    problem = inverse_problem(name, 8, noise)
    return LowRankLikelihood(MIXTURE, problem.operator, problem.noise_covariance), problem


@pytest.mark.parametrize("name", SEPARATE)
def test_operators_whose_rows_see_different_pixels_are_found(name):
    assert isinstance(likelihood(name)[0]._prior_evidence, Factored)


@pytest.mark.parametrize("name", ["gaussian_deblurring", "motion_deblurring", "compressed_sensing"])
def test_operators_whose_rows_overlap_stay_dense(name):
    assert isinstance(likelihood(name)[0]._prior_evidence, Dense)


def test_round_off_is_no_overlap_and_anything_more_is():
    rows = f64([[1.0, 0.0, 1e-17], [0.0, 0.0, 2.0]])
    assert torch.equal(separate(rows), f64([[1.0, 0.0, 0.0], [0.0, 0.0, 2.0]]))
    assert separate(f64([[1.0, 0.0, 1e-12], [0.0, 0.0, 2.0]])) is None


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e7])
def test_both_forms_agree_also_for_small_noise(scale):
    rows = torch.zeros(3, 7, dtype=torch.float64)
    rows[0, :2], rows[1, 3], rows[2, 4:] = 0.5 * scale, scale, 0.2 * scale
    diagonal, factors, misfit = 0.5 + rand(2, 1, 7), randn(2, 2, 7), randn(2, 4, 3)
    forms = [evidence(rows, diagonal, factors, separated) for separated in (True, False)]
    assert [type(form) for form in forms] == [Factored, Dense]
    (x, log_x), (y, log_y) = (form.solved(misfit) for form in forms)
    assert distance(x, y) <= 1e3 * EPS  # a scaled G_k has a condition number of some tens, whatever the scale
    torch.testing.assert_close(log_x, log_y)
    for j in range(2):
        for form in forms:
            torch.testing.assert_close(form.solved_by(j, misfit[j]), x[j], rtol=1e3 * EPS, atol=0)


@pytest.mark.parametrize("name", SEPARATE)
def test_score_is_that_of_the_dense_mixture(name):
    exact, problem = likelihood(name)
    y = problem.measure(MIXTURE.sample(5, torch.Generator().manual_seed(0)), torch.Generator().manual_seed(1))
    x = randn(5, 64)
    for t in (0.1, 0.4, 1.0):
        flow = MixtureFlow(MIXTURE.dense(), CondOT())
        expected = likelihood_score(flow, problem.operator, y, problem.noise_covariance, x, t)
        assert distance(exact.score(CondOT(), y, x, t), expected) <= 1e-9
