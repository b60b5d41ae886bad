"""Errors of gradients, their summaries, and fitted orders.

The truths are vectors and lists whose errors and quartiles are known by hand, the angle from which a vector was made,
and power laws whose exponent is given; the intervals must cover the exponent as often as they claim in simulated data.
"""

import numpy as np
import pytest
import torch

from analysis import errors
from analysis.orders import fit_order

G = torch.tensor([[3.0, 4.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)


def test_relative_error_is_per_sample():
    truth = torch.tensor([[3.0, 0.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    assert errors.relative_error(G, truth).tolist() == [4 / 3, 0.0]


def test_relative_error_of_zero_against_zero_is_zero_and_against_something_is_infinite():
    zero = torch.zeros(2, 3, dtype=torch.float64)
    assert errors.relative_error(zero, zero).tolist() == [0.0, 0.0]
    assert torch.isinf(errors.relative_error(G, zero)).all()


def test_one_minus_cosine_keeps_digits_where_the_direction_nearly_agrees():
    angle = 1e-9
    turned = torch.tensor([[np.cos(angle), np.sin(angle), 0.0]], dtype=torch.float64)
    truth = torch.tensor([[2.0, 0.0, 0.0]], dtype=torch.float64)
    assert float(errors.one_minus_cosine(turned, truth)) == pytest.approx(angle**2 / 2, rel=1e-6)


def test_one_minus_cosine_and_norm_ratio_of_opposite_vectors():
    assert errors.one_minus_cosine(-2 * G, G).tolist() == pytest.approx([2.0, 2.0])
    assert errors.norm_ratio(-2 * G, G).tolist() == pytest.approx([2.0, 2.0])


def test_summary_counts_what_is_not_finite_and_drops_nothing_else():
    found = errors.summary(torch.tensor([1.0, 2.0, 3.0, float("nan"), float("inf")]))
    assert (found["value"], found["failed"], found["samples"]) == (2.0, 2, 5)


def test_summary_has_the_quartiles_in_order():
    found = errors.summary(torch.tensor([50.0, 10.0, 40.0, 20.0, 30.0]))
    assert (found["low"], found["value"], found["high"]) == (20, 30, 40)


def test_summary_of_failures_alone_is_nan():
    found = errors.summary(torch.full((3,), float("nan")))
    assert np.isnan(found["value"])
    assert found["failed"] == 3


def test_order_is_recovered_exactly_from_a_power_law():
    h = 2.0 ** -np.arange(8)
    fit = fit_order(h, 3 * h**2.5, floor=0)
    assert fit.slope == pytest.approx(2.5, abs=1e-12)
    assert (fit.points, fit.h_min, fit.h_max) == (5, h[-1], h[3])


def test_divergence_has_a_negative_order():
    h = 2.0 ** -np.arange(6)
    assert fit_order(h, h**-1.0, floor=0).slope == pytest.approx(-1)


def test_values_below_the_floor_are_left_out_of_the_window():
    h = 2.0 ** -np.arange(12)
    error = np.maximum(h**4, 1e-9)  # a plateau of round-off
    assert fit_order(h, error, floor=0).slope < 1
    fit = fit_order(h, error, floor=2e-9)
    assert fit.slope == pytest.approx(4)
    assert fit.h_min**4 > 2e-9


def test_a_floor_per_value_is_used_per_value():
    h = 2.0 ** -np.arange(6)
    floor = np.where(h < 0.1, 1.0, 0.0)
    assert fit_order(h, h**2, floor=floor, points=9).h_min > 0.1


def test_the_interval_covers_the_slope_of_noisy_data():
    generator = np.random.default_rng(0)
    h = 2.0 ** -np.arange(10)
    covered = 0
    for _ in range(200):
        fit = fit_order(h, h**2 * np.exp(0.1 * generator.standard_normal(10)), floor=0, points=10)
        covered += fit.low <= 2 <= fit.high
    assert 180 <= covered <= 199  # 95 % of 200, within three binomial standard deviations


def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match="error must exceed the floor"):
        fit_order([1.0, 0.5, 0.25], [1.0, 0.5, 1e-20], floor=1e-10)


@pytest.mark.parametrize("h", [[1.0, 1.0, 0.5], [0.0, 0.5, 1.0]])
def test_steps_that_repeat_or_vanish_are_refused(h):
    with pytest.raises(ValueError, match="h and error"):
        fit_order(h, [1.0, 1.0, 1.0], floor=0)


@pytest.mark.parametrize("values", [torch.ones(3, 2), torch.ones(()), torch.ones(0)])
def test_summary_takes_one_number_per_sample(values):
    with pytest.raises(ValueError, match=r"values must have shape \(B,\)"):
        errors.summary(values)
