"""Distances and coverage against closed forms, SciPy's one-dimensional functions and simulation."""

import math

import pytest
import torch
from scipy import stats

from analysis import sample_distances
from analysis.intervals import interval
from analysis.sample_distances import coverage, energy_distance, mean_error, misfit
from tests.support.problems import f64, randn

LEVELS = (0.5, 0.8, 0.95)


def sliced(x, y, **options):
    return sample_distances.sliced_wasserstein(x, y, **options)


@pytest.mark.parametrize("m", [7, 12, 30])
def test_on_a_line_it_is_the_wasserstein_distance_of_the_steps(m):
    x, y = randn(12, 1, seed=1), 2 * randn(m, 1, seed=2) + 1
    repeated = [v.repeat_interleave(k, 0).sort(0).values for v, k in ((x, m), (y, 12))]
    expected = (repeated[0] - repeated[1]).square().mean().sqrt()
    torch.testing.assert_close(sliced(x, y), expected)  # in one dimension every direction is the line


def test_two_gaussians_on_a_line_have_the_closed_form():
    levels = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    z = torch.special.ndtri(levels)[:, None]
    found = sliced(0.5 + 2 * z, -0.3 + 0.7 * z)  # W2^2 = (difference of means)^2 + (difference of deviations)^2
    assert float(found) == pytest.approx(math.hypot(0.8, 1.3), rel=1e-3)


def test_directions_are_the_same_for_a_seed_and_others_for_another():
    x, y = randn(30, 4, seed=1), randn(20, 4, seed=2)
    assert torch.equal(sliced(x, y, projections=3), sliced(x, y, projections=3))
    assert not torch.equal(sliced(x, y, projections=3), sliced(x, y, projections=3, seed=1))


def test_a_shift_is_seen_as_its_length_over_the_root_of_the_dimension():
    x, d = randn(3, 9, 5), 5
    shift = f64([0.3, -0.2, 0.5, 0.0, 1.0])
    found = sliced(x, x + shift, projections=20_000)
    torch.testing.assert_close(
        found, torch.full((3,), float(shift.norm()) / d**0.5, dtype=torch.float64), rtol=0.02, atol=0
    )


def test_the_energy_distance_is_scipys_on_a_line_and_zero_in_expectation_for_equal_laws():
    x, y = randn(40, 1, seed=1), randn(25, 1, seed=2) + 1
    biased = stats.energy_distance(x[:, 0], y[:, 0]) ** 2
    inner = [float(torch.cdist(v, v).sum()) for v in (x, y)]
    change = sum(total / n**2 - total / (n * (n - 1)) for total, n in zip(inner, (40, 25), strict=True))
    # SciPy integrates (F - G)^2, of which twice is the energy distance; its root is what it returns.
    assert float(energy_distance(x, y)) == pytest.approx(biased + change, rel=1e-10)
    many = energy_distance(randn(2000, 6, 3, seed=3), randn(2000, 9, 3, seed=4))
    assert abs(float(many.mean())) < 4 * float(many.std()) / 2000**0.5
    assert float(many.std()) > 0.05


def test_a_batch_is_its_measurements_one_by_one():
    x, y = randn(4, 6, 3, seed=1), randn(4, 11, 3, seed=2)
    for metric in (
        sliced,
        energy_distance,
        lambda a, b: coverage(a, b, LEVELS),
        lambda a, b: mean_error(a, b.mean(-2)),
    ):
        torch.testing.assert_close(metric(x, y), torch.stack([metric(a, b) for a, b in zip(x, y, strict=True)]))


@pytest.mark.parametrize("n", [1, 5, 40])
def test_coverage_is_nominal_for_exact_samples_however_few(n):
    found = coverage(randn(4000, n, 2, seed=1).exp(), randn(4000, 3, 2, seed=2).exp(), LEVELS)
    slack = 4 * found.std(0) / 4000**0.5 + 1e-12  # with one sample every truth has the nominal share
    assert ((found.mean(0) - f64(LEVELS)).abs() < slack).all()
    assert (slack < 0.05).all()


def test_coverage_tells_narrow_from_wide_and_counts_ties_once():
    x, truth = randn(200, 50, 2, seed=1), randn(200, 5, 2, seed=2)
    narrow, wide = coverage(0.5 * x, truth, [0.9])[:, 0].mean(), coverage(2 * x, truth, [0.9])[:, 0].mean()
    assert narrow < 0.65
    assert wide > 0.97
    constant = torch.zeros(1, 9, 2, dtype=torch.float64)
    torch.testing.assert_close(coverage(constant, constant, LEVELS)[0], f64(LEVELS))


def test_the_error_of_the_mean_and_the_misfit_are_what_they_say():
    x = randn(2, 8, 3)
    mean = randn(2, 3, seed=1)
    expected = (x.mean(1) - mean).norm(dim=1) / mean.norm(dim=1)
    torch.testing.assert_close(mean_error(x, mean), expected)
    torch.testing.assert_close(mean_error(x[0], mean[0]), expected[0])
    torch.testing.assert_close(misfit(x, 0.5), 4 * x.square().mean((1, 2)))
    assert float(misfit(0.3 * randn(1, 4000, 5), 0.3)) == pytest.approx(1, abs=0.05)


def test_a_sample_that_is_not_finite_fails_its_measurement_and_no_other():
    x, y = randn(3, 6, 2, seed=1), randn(3, 8, 2, seed=2)
    broken = x.clone()
    broken[1, 2, 0] = math.inf
    for metric in (
        sliced,
        energy_distance,
        lambda a, b: coverage(a, b, LEVELS),
        lambda a, b: mean_error(a, b.mean(-2)),
    ):
        found, whole = metric(broken, y), metric(x, y)
        assert found[1].isnan().all()
        torch.testing.assert_close(found[[0, 2]], whole[[0, 2]])
    assert misfit(broken, 1.0).isnan().tolist() == [False, True, False]
    assert interval(sliced(broken, y)).failed == 1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: sliced(randn(4), randn(4)), "x must have shape"),
        (lambda: sliced(randn(4, 2), [1.0]), "y must have shape"),
        (lambda: sliced(randn(4, 2), randn(4, 3)), "x and y must agree"),
        (lambda: sliced(randn(2, 4, 2), randn(3, 4, 2)), "x and y must agree"),
        (lambda: sliced(randn(4, 2), randn(4, 2), projections=0), "projections"),
        (lambda: energy_distance(randn(1, 2), randn(4, 2)), "two samples"),
        (lambda: coverage(randn(4, 2), randn(4, 2), []), "levels"),
        (lambda: coverage(randn(4, 2), randn(4, 2), [1.0]), "levels"),
        (lambda: misfit(randn(4, 2), 0.0), "noise"),
    ],
)
def test_bad_input_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()
