"""Exact posteriors of batches of measurements, of mixtures with full and with low-rank covariances.

They are compared with the posteriors of one measurement after the other, which have tests of their own, and low-rank
ones with those of the same mixture with dense covariances; metrics with samples that are exact by construction and with
samples of the prior.
"""

import pytest
import torch

from analysis import sample_distances
from analysis.measurements import LEVELS
from analysis.operators import InverseProblem, NonlinearOperator, from_matrix
from analysis.paths import CondOT, Cosine
from tests.support.low_rank import random_low_rank
from tests.support.problems import distance, f64, randn, random_mixture
from toy_models import MixtureFlow
from toy_models.experiments import outcome
from toy_models.posteriors.dense import condition, likelihood_score
from toy_models.posteriors.measurements import measured_batch

A = f64([[1.0, 0.5, 0.0], [0.0, -0.3, 1.0]])
FLOW = MixtureFlow(random_mixture(3, 3), CondOT())
MIXTURE = random_low_rank(3, 5, 2)
ROWS = randn(2, 5, seed=4)
PROBLEM = InverseProblem(from_matrix(ROWS), 0.4)


def batch(count=4, noise=0.3, members=5):
    generator = torch.Generator().manual_seed(0)
    clean, problem = FLOW.mixture.sample(count, generator), InverseProblem(from_matrix(A), noise)
    return measured_batch(FLOW.mixture, problem, clean, generator, members=members, exact=50)


def posteriors(measured):
    covariance = measured.problem.noise_covariance
    return [condition(FLOW.mixture, A, y, covariance) for y in measured.measurements]


def test_density_and_mean_are_those_of_each_posterior():
    measured, x = batch(), randn(4, 7, 3)
    law = measured.exact.law
    for i, posterior in enumerate(posteriors(measured)):
        torch.testing.assert_close(law.log_prob(x)[i], posterior.log_prob(x[i]))
        torch.testing.assert_close(law.mean[i], posterior.weights @ posterior.means)


def test_exact_samples_have_the_moments_of_each_posterior():
    measured, n = batch(), 40_000
    x = measured.exact.law.sample(n, torch.Generator().manual_seed(1))
    assert x.shape == (4, n, 3)
    for samples, posterior in zip(x, posteriors(measured), strict=True):
        mean = posterior.weights @ posterior.means
        away = posterior.means - mean
        second = posterior.covariances + away[:, :, None] * away[:, None]
        covariance = torch.einsum("k,kij->ij", posterior.weights, second)
        assert ((samples.mean(0) - mean).abs() < 4.5 * (covariance.diagonal() / n).sqrt()).all()
        assert distance(samples.T.cov(), covariance) < 0.05


@pytest.mark.parametrize("n", [None, 5, 2])
def test_loss_and_score_are_those_of_the_measurements_one_by_one(n):
    measured, each = batch(), n or 5
    x, t = randn(4 * each, 3), f64(0.4)
    loss, score = measured.loss(n)(x), measured.score(FLOW.path, n)(x, t)
    for i, y in enumerate(measured.measurements):
        part = slice(i * each, (i + 1) * each)
        torch.testing.assert_close(loss[part], (x[part] @ A.T - y).square().sum(1) / (2 * 0.3**2))
        expected = likelihood_score(FLOW, A, y, measured.problem.noise_covariance, x[part], 0.4)
        torch.testing.assert_close(score[part], expected)


def test_a_part_of_a_batch_has_its_own_images_and_noise_and_no_posteriors():
    measured = batch()
    part = measured.part(slice(1, 3))
    assert torch.equal(part.clean, measured.clean[1:3])
    assert torch.equal(part.measurements, measured.measurements[1:3])
    assert torch.equal(part.x0, measured.x0[5:15])
    assert part.members == measured.members == 5
    with pytest.raises(ValueError, match="the exact posteriors of these measurements are not known"):
        part.metrics(randn(2, 5, 3))


def test_exact_samples_have_the_best_metrics_and_prior_samples_bad_ones():
    measured, generator = batch(200, members=9), torch.Generator().manual_seed(1)
    good = measured.metrics(measured.exact.independent)
    bad = measured.metrics(FLOW.mixture.sample(200 * 9, generator).unflatten(0, (200, 9)))
    assert set(good) == {*outcome.METRICS, *(f"coverage_{level:g}" for level in LEVELS)}
    assert all(v.shape == (200,) for v in good.values())
    assert abs(float(good["energy_distance"].mean())) < 4 * float(good["energy_distance"].std()) / 200**0.5
    assert float(good["misfit"].mean()) == pytest.approx(1, abs=0.2)
    for level in LEVELS:
        assert float(good[f"coverage_{level:g}"].mean()) == pytest.approx(level, abs=0.02)
    for metric in ("sliced_wasserstein", "energy_distance", "mean_error", "misfit"):
        assert bad[metric].mean() > good[metric].mean() + 0.2
    assert bad["log_density"].mean() < good["log_density"].mean() - 1


def test_clean_images_of_the_law_are_covered_as_often_as_intervals_say():
    measured = batch(600, members=9)
    shares = sample_distances.coverage(measured.exact.independent, measured.clean[:, None], LEVELS)
    torch.testing.assert_close(shares.mean(0), f64(LEVELS), atol=0.05, rtol=0)


def low_rank_batch(images=4, dense=False, members=3, exact=40):
    generator = torch.Generator().manual_seed(0)
    clean, mixture = MIXTURE.sample(images, generator), MIXTURE.dense() if dense else MIXTURE
    return measured_batch(mixture, PROBLEM, clean, generator, members=members, exact=exact)


def test_low_rank_posteriors_are_those_of_the_measurements_one_by_one():
    measured, x = low_rank_batch(), randn(4, 7, 5)
    for i, y in enumerate(measured.measurements):
        one = condition(MIXTURE, ROWS, y, PROBLEM.noise_covariance)
        torch.testing.assert_close(measured.exact.law.mean[i], one.mean)
        torch.testing.assert_close(measured.exact.law.log_prob(x)[i], one.log_prob(x[i]))


@pytest.mark.parametrize("path", [CondOT(), Cosine()])
def test_low_rank_and_dense_posteriors_agree(path):
    low_rank, dense = low_rank_batch(), low_rank_batch(dense=True)
    x = randn(4, 3, 5)
    torch.testing.assert_close(low_rank.exact.law.mean, dense.exact.law.mean)
    torch.testing.assert_close(low_rank.exact.law.log_prob(x), dense.exact.law.log_prob(x))
    for t in (0.2, 0.7):
        place = x.flatten(0, 1), f64(t)
        torch.testing.assert_close(low_rank.score(path)(*place), dense.score(path)(*place))
    torch.testing.assert_close(low_rank.loss()(x.flatten(0, 1)), dense.loss()(x.flatten(0, 1)))


def test_low_rank_samples_have_the_moments_of_each_posterior():
    law, n = low_rank_batch(images=3).exact.law, 40_000
    x = law.sample(n, torch.Generator().manual_seed(1))
    assert x.shape == (3, n, 5)
    exact = low_rank_batch(images=3, dense=True).exact.law.sample(n, torch.Generator().manual_seed(2))
    for samples, others, mean in zip(x, exact, law.mean, strict=True):
        assert ((samples.mean(0) - mean).abs() < 4.5 * (samples.var(0) / n).sqrt()).all()
        assert distance(samples.T.cov(), others.T.cov()) < 0.05


def test_exact_low_rank_samples_have_good_metrics():
    measured = low_rank_batch(images=200, members=9)
    metrics = measured.metrics(measured.exact.independent)
    energy = metrics["energy_distance"]
    assert abs(float(energy.mean())) < 4 * float(energy.std()) / 200**0.5
    assert float(metrics["misfit"].mean()) == pytest.approx(1, abs=0.2)
    assert abs(float(metrics["log_density"].mean())) < 0.2
    for level in LEVELS:
        assert float(metrics[f"coverage_{level:g}"].mean()) == pytest.approx(level, abs=0.02)


def test_a_nonlinear_problem_has_no_exact_posterior():
    problem = InverseProblem(NonlinearOperator(torch.tanh, 5, 5), 0.4)
    with pytest.raises(ValueError, match="operator must be linear for an exact posterior, got NonlinearOperator"):
        measured_batch(MIXTURE, problem, randn(2, 5), torch.Generator(), members=2, exact=2)
