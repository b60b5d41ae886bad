"""The share of what there is to win, held against regrets whose share is plain, and a table without noise."""

import numpy as np
import pandas as pd
import pytest

from analysis.claims import two_terms
from analysis.paths import CondOT


def test_shares_of_what_there_is_to_win():
    regret = np.array([1.1, 1.3, 1.2])
    assert two_terms.share_won(regret, regret, seed=0) == pytest.approx((0, 0, 0))
    assert two_terms.share_won(np.ones(3), regret, seed=0) == pytest.approx((1, 1, 1))
    assert two_terms.share_won(np.sqrt(regret), regret, seed=0) == pytest.approx((0.5, 0.5, 0.5))
    value, low, high = two_terms.share_won(np.array([1.1, 1.0, 1.0]), regret, seed=0)
    assert low <= value <= high <= 1


def test_too_few_step_counts_decide_nothing():
    # One of two step counts has nothing to win, so some resamples hold that one alone: 0/0.
    assert two_terms.share_won(np.ones(2), np.array([1.06, 1.0]), seed=0) == (1, 0, 1)


def exact_table(power):
    """Errors that are two terms: zeta^2 and f^power/n, for Euler on CondOT."""
    grid = [(n, f) for n in (1, 2, 4, 8, 16) for f in (0.25, 0.5, 0.75, 0.9, 1.0)]
    steps, fraction = (np.array(column, float) for column in zip(*grid, strict=True))
    named = {"problem": "p", "path": "condot", "solver": "euler", "t": 0.2, "metric": "relative_error"}
    table = two_terms.with_zeta(
        pd.DataFrame(
            named | {"steps": steps, "fraction": fraction, "horizon": 0.2 + 0.8 * fraction}, index=range(len(grid))
        )
    )
    value = 0.3 * table["zeta"] ** 2 + 0.2 * fraction**power / steps
    return table.assign(value=value, evaluations=steps + (fraction < 1))


def test_zeta_is_taken_at_the_horizon():
    table = exact_table(2)
    times = 0.2 + table["fraction"] * 0.8
    np.testing.assert_allclose(table["zeta"], [float(CondOT().zeta(t)) for t in times], rtol=1e-12)


@pytest.mark.parametrize(("power", "form"), [(0, "printed"), (2, "interval")])
def test_a_form_explains_the_errors_that_it_made_and_not_those_of_the_other(power, form):
    fits = two_terms.two_term_tables(exact_table(power))["fits"].set_index("form")
    assert fits.loc[form, ["A", "B"]].tolist() == pytest.approx([0.3, 0.2], rel=1e-3)
    assert fits.loc[form, "held_out_factor"] == pytest.approx(1, abs=1e-3)
    assert fits["held_out_factor"].drop([form, "bounded"]).item() > 1.05
