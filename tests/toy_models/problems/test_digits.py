"""The mixture fitted to the 8x8 digits: the committed arrays, the record about them, and the images.

The truths are the digits that scikit-learn ships, SciPy's own normal densities evaluated on the committed arrays, and
normal-theory intervals; the record's numbers are recomputed from these and never taken from the code that wrote them.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from toy_models.problems import digits


@pytest.fixture(scope="module")
def splits():
    pytest.importorskip("sklearn")
    return digits.digits_splits()


@pytest.fixture(scope="module")
def record():
    return json.loads((digits.DATA / "digits.json").read_text())


def mixture_log_density(images, weights, means, covariances):
    parts = [multivariate_normal(m, c).logpdf(images) for m, c in zip(means, covariances, strict=True)]
    return logsumexp(np.stack(parts), axis=0, b=weights[:, None])


def single_log_density(images, train, reg_covar):
    covariance = np.cov(train.T, bias=True) + reg_covar * np.eye(train.shape[1])
    return multivariate_normal(train.mean(0), covariance).logpdf(images)


def test_arrays_are_a_mixture_in_64_dimensions():
    weights, means, covariances = digits.load()
    assert (weights.shape, means.shape, covariances.shape) == ((10,), (10, 64), (10, 64, 64))
    assert {weights.dtype, means.dtype, covariances.dtype} == {np.dtype("float64")}
    assert weights.min() > 0
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    assert np.abs(means).max() <= 1


def test_covariances_are_symmetric_and_no_narrower_than_the_chosen_reg_covar(record):
    covariances = digits.load()[2]
    assert np.array_equal(covariances, covariances.transpose(0, 2, 1))
    assert np.linalg.eigvalsh(covariances).min() > 0.999 * record["reg_covar"]["mixture"]
    np.testing.assert_allclose(np.linalg.cond(covariances), record["condition_numbers"], rtol=1e-6)


def test_splits_are_disjoint_scaled_and_of_the_recorded_sizes(splits, record):
    assert {name: len(images) for name, images in splits.items()} == record["split_sizes"]
    everything = np.concatenate(list(splits.values()))
    assert len(np.unique(everything, axis=0)) == len(everything) == 1797
    assert (everything.min(), everything.max()) == (-1, 1)


def test_held_out_images_are_the_test_split(splits):
    images, labels = digits.held_out()
    assert np.array_equal(images, splits["test"])
    assert np.array_equal(labels, digits.labelled_splits()["test"][1])


def test_held_out_images_are_real_digits_that_need_no_scikit_learn(monkeypatch, record):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    images, labels = digits.held_out()
    assert (images.shape, images.dtype, labels.dtype) == ((360, 64), np.dtype("float64"), np.dtype("int64"))
    assert np.array_equal(images * 8, np.round(images * 8))
    assert (images.min(), images.max()) == (-1, 1)
    assert set(np.bincount(labels)) <= {35, 36, 37}  # stratified
    scores = mixture_log_density(images, *digits.load())
    assert scores.mean() == pytest.approx(record["test_log_likelihood"]["mixture"]["mean"], rel=1e-8)


def test_held_out_images_are_written_exactly(tmp_path, monkeypatch):
    images, labels = digits.held_out()
    path = tmp_path / "again.npz"
    digits.write_whole(path, lambda file: digits._save_held_out(file, images, labels))
    monkeypatch.setattr(digits, "HELD_OUT", path)
    assert all(np.array_equal(a, b) for a, b in zip(digits.held_out(), (images, labels), strict=True))


def test_held_out_log_likelihoods_match_the_record(splits, record):
    mixture = mixture_log_density(splits["test"], *digits.load())
    single = single_log_density(splits["test"], splits["train"], record["reg_covar"]["single"])
    found = {"mixture": mixture, "single": single, "mixture_minus_single": mixture - single}
    for name, values in found.items():
        assert values.mean() == pytest.approx(record["test_log_likelihood"][name]["mean"], rel=1e-8)


def test_intervals_agree_with_the_normal_ones(splits, record):
    # The scores have a long lower tail, so the two kinds of interval may differ, but not by much.
    values = mixture_log_density(splits["test"], *digits.load())
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    low, high = record["test_log_likelihood"]["mixture"]["interval_95"]
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * half, rel=0.25)


def test_mixture_beats_the_single_gaussian_on_held_out_images(record):
    assert record["test_log_likelihood"]["mixture_minus_single"]["interval_95"][0] > 0


def test_mixture_beats_the_single_gaussian_at_every_allowed_reg_covar(record):
    sweep = record["validation_log_likelihood_by_reg_covar"]
    assert all(sweep["mixture"][f"{reg:.3e}"] > sweep["single"][f"{reg:.3e}"] for reg in digits.GRID)


def test_chosen_reg_covar_is_the_best_allowed_one_on_validation(record):
    for model, sweep in record["validation_log_likelihood_by_reg_covar"].items():
        best = max(digits.GRID, key=lambda reg: sweep[f"{reg:.3e}"])
        assert record["reg_covar"][model] == best


def test_fit_path_recovers_two_separated_clusters_and_repeats():
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    train = np.concatenate([rng.normal(-3, 0.5, (300, 2)), rng.normal(3, 0.5, (100, 2))])
    first, second = digits.fit_path(train, 2), digits.fit_path(train, 2)
    fit = first[digits.GRID[-1]]
    order = np.argsort(fit.weights_)
    np.testing.assert_allclose(fit.weights_[order], [0.25, 0.75], atol=1e-6)
    np.testing.assert_allclose(fit.means_[order], [[3, 3], [-3, -3]], atol=0.2)
    assert np.array_equal(fit.covariances_, second[digits.GRID[-1]].covariances_)


def test_unknown_name_says_which_argument_and_which_names():
    with pytest.raises(ValueError, match=r"name must be one of \['digits'\], got 'letters'"):
        digits.load("letters")


def test_splits_without_scikit_learn_say_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r'pip install -e "\.\[fit\]"'):
        digits.digits_splits()


def test_load_does_not_import_scikit_learn():
    code = "import sys; from toy_models.problems import digits; digits.load(); assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(digits.__file__).parents[2])


def test_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "digits.npz"
    digits.write_whole(path, lambda file: file.write(b"old"))

    def broken(file):
        file.write(b"half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        digits.write_whole(path, broken)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_stay_small():
    assert (digits.DATA / "digits.npz").stat().st_size <= 400_000
    assert digits.HELD_OUT.stat().st_size <= 20_000
