"""The kinds of case, held against errors whose worst sample or order is known by construction."""

import pytest
import torch

from analysis.claims import LINE_FIT, PRINTED, Claim, judge
from analysis.claims.cases import equality_case, order_case, slope_case
from tests.support.problems import f64

H = f64([0.8, 0.4, 0.2, 0.1])


def stands(case):
    return judge(Claim("X", "", "", lambda quick, seed: [case]).rows(True, 0))["standing"]


def test_a_slope_that_cannot_be_fitted_fails_and_says_why():
    case = order_case(PRINTED, "r", "c", H, torch.full((4, 2), 1e-16), 2.0, floor=1e-12)
    assert "must exceed the floor" in case.case
    assert not stands(case)


@pytest.mark.parametrize(("limit", "rule", "passes"), [(2, "at least", 1), (3, "at least", 0), (1, "near", 0)])
def test_the_slope_is_that_of_the_median_sample(limit, rule, passes):
    error = torch.stack([H**2, 5 * H**2, 100 * H], 1)  # of which the middle one decides
    case = order_case(PRINTED, "r", "c", H, error, float(limit), floor=0.0, rule=rule)
    assert case.interval_from == LINE_FIT
    assert stands(case) == bool(passes)


def test_a_bent_curve_has_a_wide_interval_and_is_near_no_order():
    # Local orders 2.6, 1.5 and 0.6 have the mean slope 1.56: an interval that contains 2 does not make it order 2.
    error = torch.exp2(-f64([0, 2.6, 4.1, 4.7]))[:, None]
    case = order_case(PRINTED, "r", "c", H, error, 2.0, floor=0.0, rule="near")
    assert case.value == pytest.approx(1.56, abs=0.01)
    assert case.low < 2.0 < case.high
    assert not stands(case)


def test_equality_is_judged_on_the_sample_nearest_to_its_limit():
    measured, expected = f64([[1.1], [2.1]]), f64([[1.0], [2.0]])
    case = equality_case(PRINTED, "r", "c", measured, expected, 0.06)
    assert case.value == pytest.approx(0.1)
    assert not stands(case)
    assert equality_case(PRINTED, "r", "c", measured, expected, f64([1.0, 0.06])).value == pytest.approx(0.05)


def test_a_sample_that_is_not_finite_is_the_worst():
    case = equality_case(PRINTED, "r", "c", f64([[1.0], [float("nan")]]), f64([[1.0], [2.0]]), 0.1)
    assert not stands(case)


def test_a_slope_has_the_tolerance_of_a_finite_window():
    assert stands(slope_case(PRINTED, "r", "c", (1.9, 1.86, 1.94), 2.0, "near"))
    assert not stands(slope_case(PRINTED, "r", "c", (1.9, 1.8, 2.0), 2.0, "near"))
