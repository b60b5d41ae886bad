"""The two-term form: recovery of known terms, intervals that cover, the horizon it predicts, and bad input."""

import numpy as np
import pytest

from analysis.bounds.two_term import FORMS, fit_two_term

T = 0.2


def cells(steps=(1, 2, 4, 8), fractions=(0.4, 0.6, 0.8, 0.9, 0.97, 1.0)):
    """Step counts, zeta on CondOT and fraction of all combinations, (C,) each."""
    n, f = (v.ravel() for v in np.meshgrid(np.array(steps, float), np.array(fractions), indexing="ij"))
    s = T + f * (1 - T)
    return n, (1 - s) / s, f


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("order", [1, 2, 4])
def test_exact_terms_are_recovered(form, order):
    n, zeta, f = cells()
    a, b = FORMS[form](n, zeta, f, order)
    fit = fit_two_term(form, n, zeta, f, 0.7 * a + 0.03 * b, order)
    assert fit.projection[0] == pytest.approx(0.7, rel=1e-5)
    assert fit.solver[0] == pytest.approx(0.03, rel=1e-5)
    assert fit.factor == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(fit.error(n, zeta, f), 0.7 * a + 0.03 * b, rtol=1e-5)


def test_intervals_cover_the_truth_under_noise():
    n, zeta, f = cells()
    a, b = FORMS["interval"](n, zeta, f, 1)
    generator = np.random.default_rng(0)
    covered = []
    for _ in range(200):
        error = (0.7 * a + 0.3 * b) * np.exp(0.1 * generator.standard_normal(len(a)))
        fit = fit_two_term("interval", n, zeta, f, error, 1)
        covered.append([fit.projection[1] <= 0.7 <= fit.projection[2], fit.solver[1] <= 0.3 <= fit.solver[2]])
        assert fit.factor == pytest.approx(np.exp(0.1), abs=0.06)
    # 95 % of 200, four standard deviations of a binomial below.
    assert (np.mean(covered, 0) > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 200)).all()


def test_the_printed_form_always_goes_to_the_end():
    n, zeta, f = cells()
    fit = fit_two_term("printed", n, zeta, f, 0.5 * zeta**2 + 0.9 / n, 1)
    horizons = np.linspace(0.1, 1, 91)
    s = T + horizons * (1 - T)
    assert {fit.best_horizon(k, (1 - s) / s, horizons) for k in (1, 3, 64)} == {90}


@pytest.mark.parametrize("steps", [1, 4, 16, 64])
def test_the_best_horizon_is_where_the_terms_slopes_cancel(steps):
    a, b = 0.8, 1.2
    n, zeta, f = cells()
    fit = fit_two_term("interval", n, zeta, f, a * zeta**2 + b * f**2 / n, 1)
    horizons = np.linspace(0.3, 1, 20_001)
    s = T + horizons * (1 - T)
    found = horizons[fit.best_horizon(steps, (1 - s) / s, horizons)]
    s = T + found * (1 - T)
    slope = -2 * a * (1 - s) / s**3 * (1 - T) + 2 * b * found / steps
    assert found < 1
    assert abs(slope) < 1e-3 * 2 * b * found / steps


def test_a_budget_is_spent_on_steps_and_one_projection():
    n, zeta, f = cells()
    fit = fit_two_term("interval", n, zeta, f, zeta**2 + f**3 / n**2, 2)
    ends = np.array([0.0]), np.array([1.0])
    assert fit.best_within(9, 2, *ends) == (4, 0)
    horizons = np.array([0.7, 0.9, 1.0])
    s = T + horizons * (1 - T)
    zeta = (1 - s) / s
    # Nine evaluations pay for four steps of two and a projection; eight for four steps, or three and a projection.
    errors = [fit.error(np.array(k), zeta, horizons) for k in (4, 3)]
    assert fit.best_within(9, 2, zeta, horizons) == (4, int(errors[0].argmin()))
    short = int(errors[1][:2].argmin())
    assert fit.best_within(8, 2, zeta, horizons) == ((3, short) if errors[1][short] < errors[0][2] else (4, 2))
    assert fit.best_within(2, 2, zeta, horizons) == (1, 2)
    with pytest.raises(ValueError, match="budget must pay for one step of 2 evaluations, got 1"):
        fit.best_within(1, 2, zeta, horizons)


def test_more_steps_move_the_best_horizon_to_the_end():
    n, zeta, f = cells()
    fit = fit_two_term("bounded", n, zeta, f, zeta**2 / (1 + zeta**2) + f**2 / n, 1)
    horizons = np.linspace(0.1, 1, 901)
    s = T + horizons * (1 - T)
    best = [horizons[fit.best_horizon(k, (1 - s) / s, horizons)] for k in (1, 2, 4, 8, 16, 32)]
    assert all(np.diff(best) > 0)


def test_bad_input_is_refused():
    n, zeta, f = cells()
    error = zeta**2 + 1 / n
    with pytest.raises(ValueError, match=r"form must be one of bounded, interval, printed"):
        fit_two_term("cubic", n, zeta, f, error, 1)
    with pytest.raises(ValueError, match="equal length"):
        fit_two_term("printed", n[:-1], zeta, f, error, 1)
    with pytest.raises(ValueError, match=r"error must have shape \(n,\)"):
        fit_two_term("printed", *(v.reshape(4, -1) for v in (n, zeta, f, error)), 1)
    with pytest.raises(ValueError, match="at least 4 values"):
        fit_two_term("printed", n[:3], zeta[:3], f[:3], error[:3], 1)
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="positive and finite"):
            fit_two_term("printed", n, zeta, f, np.where(n == 1, bad, error), 1)
    with pytest.raises(ValueError, match=r"short of 1"):
        fit_two_term("printed", n, 0 * zeta, f, error, 1)
    fit = fit_two_term("printed", n, zeta, f, error, 1)
    with pytest.raises(ValueError, match="steps must be an integer of at least 1"):
        fit.best_horizon(0, zeta, f)
