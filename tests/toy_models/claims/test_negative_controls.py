"""Every claim can fail: on a wrong statement that its own code measures, and on a mistake in what it measures.

The truth is the theory itself: which claims a mistake breaks follows from what each of them measures, and the others
stand. A claim that no mistake could turn red would be no measurement.
"""

import pytest

from analysis.claims import CLAIMS, judge
from tests.support.wrong_statements import WRONG
from tests.tools.mutations import MUTATIONS, red, standing

CHEAP = {"T1a", "T1b", "P2", "T3", "D3"}
GREEDY = {"T1a", "T1b", "P2", "D2"}
STEPS = {"C4.1", "T4", "D4", "D5"}
# What each mistake turns red, of the claims measured: all of them for two, else these and the cheap ones.
EVERYWHERE = {"greedy: sign", "midpoint: weights 0.1, 0.9"}
EXPECTED = {
    "greedy: sign": GREEDY | {"T3", "D1", "D3"},
    "greedy: Jacobian of the source prediction": GREEDY | {"T3", "D1", "D3"},
    "greedy: Jacobian without its factor alpha": GREEDY | {"D3"},  # descent goes on along a scaled gradient
    "greedy: one hundredth of the way late": GREEDY | {"T3", "D3"},
    "greedy: loss gradient at the state": GREEDY | {"T3"},  # D3's loss is linear
    "greedy: loss gradient at the sample": GREEDY | {"T3"},
    "lookahead: prediction short of the horizon": {"D6"},
    "end-to-end: Jacobian left out": {"T1a", "T1b", "T4", "D4", "D5"},
    "lookahead, end-to-end: first step starts late": {"T1a", "T1b", "D6"} | STEPS,
    "midpoint: weights 0.1, 0.9": {"T5", "D6"} | STEPS,
    "midpoint: stage at 0.6": {"T5"} | STEPS,
    "euler: step 1 % short": {"T1a", "C4.1", "T4", "D4", "D7"},
    "ddim: noise weight 0.01 too large": {"T1a", "T1b", "D4", "D5"},
    "backsolve: Jacobian at the end of the solve": {"D7"},
    "backsolve: sign of the adjoint's rate": {"D7"},
    "control: factor 1.01": {"T5"},
    "control: one interval late": {"T5"},
    "leading term: 1/3 in place of 1/2": {"D2"},
    "CondOT: sigma' 1 % too large": {"P1", "C4.1", "T4", "D3"},
    "mixture: Jacobian without the responsibilities' derivative": {"T1a", "T1b", "D1", "D2"},
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mistake_turns_the_right_claims_red_and_no_other(name):
    measured = CLAIMS.keys() if name in EVERYWHERE else CHEAP | EXPECTED[name]
    assert red(name, measured) == EXPECTED[name]


def test_without_a_mistake_none_of_them_is_red():
    assert all(standing(CHEAP).values())


@pytest.mark.parametrize("id", CLAIMS)
def test_a_wrong_statement_fails(id):
    with WRONG[id]():
        rows = CLAIMS[id].rows(quick=True, seed=0)
    assert rows[["value", "low", "high"]].notna().all(axis=None)
    assert not judge(rows)["standing"]


def test_every_claim_has_a_wrong_statement_and_a_mistake():
    assert set(WRONG) == set(CLAIMS) == set().union(*EXPECTED.values())
    assert EXPECTED.keys() == MUTATIONS.keys()
