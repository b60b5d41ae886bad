"""Every claim can fail: on a wrong statement that its own code measures, and on a mistake in what it measures.

The truth is the theory itself: which claims a mistake breaks follows from what each of them measures, and the others
stand. A claim that no mistake could turn red would be no measurement.
"""

import pytest

from analysis.claims import CLAIMS, judge
from tests.support.wrong_statements import WRONG
from tests.tools.mistakes import CHEAP, EVERYWHERE, EXPECTED, MISTAKES, red


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_turns_the_right_claims_red_and_no_other(name):
    measured = CLAIMS.keys() if name in EVERYWHERE else CHEAP | EXPECTED[name]
    assert red(name, measured) == EXPECTED[name]


def test_without_a_mistake_none_of_them_is_red():
    assert red(None, CHEAP) == set()


@pytest.mark.parametrize("id", CLAIMS)
def test_a_wrong_statement_fails(id):
    with WRONG[id]():
        rows = CLAIMS[id].rows(quick=True, seed=0)
    assert rows[["value", "low", "high"]].notna().all(axis=None)
    assert not judge(rows)["standing"]


def test_every_claim_has_a_wrong_statement_and_a_mistake():
    assert set(WRONG) == set(CLAIMS) == set().union(*EXPECTED.values())
    assert EXPECTED.keys() == MISTAKES.keys()
