"""Bootstrap intervals against SciPy's own correlation, closed forms of the normal law, and repeated simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from analysis.intervals import bootstrap, interval, interval_of_few, paired_interval, spearman
from tests.support.problems import f64, randn

GENERATOR = np.random.default_rng(0)


def means(sample):
    return sample.mean(1)[:, None]


def test_the_rank_correlation_is_spearman_s_with_ties_and_over_the_last_axis():
    a, b = GENERATOR.integers(4, size=(5, 3, 7)), GENERATOR.normal(size=(5, 3, 7))
    found = spearman(a, b)
    assert found.shape == (5, 3)
    for place in np.ndindex(5, 3):
        assert found[place] == pytest.approx(stats.spearmanr(a[place], b[place]).statistic)
    assert not spearman(np.ones((2, 6)), b[:2, 0, :6]).any()


def test_a_bootstrap_interval_of_a_mean_has_the_normal_law_s_width():
    sample = GENERATOR.normal(2, 3, size=400)
    value, low, high = bootstrap(means, sample, resamples=4000)
    assert value == pytest.approx(sample.mean())
    half = 1.96 * sample.std() / 20
    assert (float(value[0] - low[0]), float(high[0] - value[0])) == pytest.approx((half, half), rel=0.08)
    whole = interval(sample, resamples=4000)
    assert (whole.low, whole.high) == pytest.approx((float(low[0]), float(high[0])), abs=0.1 * half)


def test_rows_of_a_sample_are_resampled_together_and_samples_by_themselves():
    pairs = GENERATOR.normal(size=(50, 2))
    pairs[:, 1] = 3 * pairs[:, 0]

    def slope(sample):
        return (sample[..., 1].sum(1) / sample[..., 0].sum(1))[:, None]

    assert np.allclose(bootstrap(slope, pairs), 3)

    def difference(a, b):
        return means(a) - means(b)

    one, other = GENERATOR.normal(size=100), GENERATOR.normal(size=400)
    value, low, high = bootstrap(difference, one, other)
    assert value == pytest.approx(one.mean() - other.mean())
    assert float(high[0] - low[0]) == pytest.approx(2 * 1.96 * np.sqrt(one.var() / 100 + other.var() / 400), rel=0.1)


def test_several_numbers_have_their_own_intervals_and_one_row_has_none():
    sample = GENERATOR.normal(size=(30, 2)) * [1, 10]
    value, low, high = bootstrap(lambda s: s.mean(1), sample)
    assert value.shape == low.shape == high.shape == (2,)
    assert 5 < (high - low)[1] / (high - low)[0] < 20
    assert [float(v[0]) for v in bootstrap(means, np.array([3.0]))] == [3, 3, 3]
    repeated = bootstrap(means, sample[:, 0], seed=1), bootstrap(means, sample[:, 0], seed=1)
    assert np.array_equal(*repeated)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    inside = 0
    for i in range(300):
        _, low, high = bootstrap(means, GENERATOR.exponential(size=60), seed=i, resamples=400, level=0.9)
        inside += bool(low[0] <= 1 <= high[0])
    assert 0.9 - 0.06 < inside / 300 < 0.9 + 0.05


def test_intervals_hold_the_mean_as_often_as_they_say():
    rng = np.random.default_rng(0)
    found = [interval(rng.exponential(size=60), resamples=399, seed=i) for i in range(300)]
    assert np.mean([i.low <= 1 <= i.high for i in found]) == pytest.approx(0.95, abs=0.04)
    assert all(i.low < i.mean < i.high for i in found)


def test_pairing_narrows_the_interval_and_counts_what_either_failed():
    common, a, b = (randn(50, seed=i) for i in range(3))
    values, others = 5 * common + 0.1 * a + 1, 5 * common + 0.1 * b
    found = paired_interval(values, others)
    assert found.low < 1 < found.high
    assert found.high - found.low < 0.1 * (interval(values).high - interval(values).low)
    values[3], others[4] = math.nan, math.inf
    assert (paired_interval(values, others).failed, paired_interval(values, others).measurements) == (2, 50)


def test_the_interval_of_few_is_student_s_and_holds_the_mean_as_often_as_it_says():
    values = GENERATOR.normal(3, 2, size=(2000, 5))
    found = interval_of_few(values[0])
    expected = stats.ttest_1samp(values[0], 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    few = [interval_of_few(row) for row in values]
    assert 0.93 < np.mean([one.low < 3 < one.high for one in few]) < 0.97
    lost = interval_of_few(f64([1.0, math.nan]))
    assert (lost.mean, lost.failed, lost.measurements) == (1.0, 1, 2)
    assert math.isnan(lost.low)


def test_intervals_of_equal_single_and_failed_values_have_no_width():
    for values, mean in (([0.3] * 5, 0.3), ([2.0], 2.0), ([0.0, 0.0, math.nan], 0.0)):
        found = interval(f64(values))
        assert found.low == found.high == found.mean == pytest.approx(mean)
    lost = interval(f64([math.nan, math.inf]))
    assert math.isnan(lost.mean)
    assert (lost.failed, lost.measurements) == (2, 2)


@pytest.mark.parametrize("level", [0, 1, 1.5, float("nan")])
def test_bad_levels_and_empty_samples_are_refused(level):
    with pytest.raises(ValueError, match="level must lie in"):
        bootstrap(means, np.arange(5.0), level=level)
    with pytest.raises(ValueError, match="samples must have at least one row each"):
        bootstrap(means, np.arange(5.0), np.empty(0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: interval(randn(4, 2)), "values must have shape"),
        (lambda: interval(randn(4), level=1.0), "level"),
        (lambda: interval(f64([1.0, 1.0]), level=1.0), "level"),
        (lambda: interval_of_few(randn(4, 2)), "values must have shape"),
        (lambda: interval_of_few(randn(4), level=1.0), "level"),
        (lambda: paired_interval(randn(4), randn(5)), "same measurements"),
    ],
)
def test_bad_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
