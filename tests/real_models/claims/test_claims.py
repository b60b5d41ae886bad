"""The claims on a learned flow: the ledger of a small smooth network, which is not even in zeta."""

import pandas as pd
import pytest

from analysis.claims import FAILS, HOLDS, HOLDS_SO, INSTEAD, STATEMENTS, judge, leading, one_step
from analysis.experiment import measure_cell
from analysis.settings import Options
from real_models.claims import exact, steps
from real_models.claims.learned import MEASURES, Learned
from real_models.claims.steps import EVENLY, LINEARLY, NOT_EVEN
from real_models.experiments import real_claims
from tests.support.wrong_statements import higher_order, other_terms, scaled

CHEAP = {"T1a": HOLDS, "T1b": HOLDS_SO, "P2": HOLDS_SO, "T3": HOLDS_SO, "D1": HOLDS_SO, "D2": FAILS, "D7": FAILS}
# Of these some slopes are those of the statement here, and not all: the network is far from resolved at their steps.
SLOPES = ("C4.1", "T4", "D4", "D5")
WRONG = {
    "T1a": lambda: scaled(one_step, "loss_gradient"),
    "T1b": lambda: scaled(one_step, "jacobian_by_autograd"),
    "P2": lambda: scaled(exact, "vjp_by_autograd", -1),
    "T3": higher_order,
    "D1": lambda: scaled(steps, "curvature"),
    "D2": lambda: scaled(leading, "leading_term", 2 / 3),
    "D6": other_terms,
    "D7": higher_order,
} | dict.fromkeys(SLOPES, higher_order)
# This network is smooth on scales where the digits' is not.
SMALL = Learned("tests.real_models.experiments.test_real_flow:subject", "mnist_unet", smooth=0.016, resolved=4.0)


def measured(id):
    (cell,) = (c for c in real_claims.cells_on(SMALL, Options()) if c.problem == id)
    return measure_cell(cell)


@pytest.fixture(scope="module")
def cases():
    return pd.concat([measured(id) for id in (*CHEAP, *SLOPES)], ignore_index=True)


@pytest.fixture(scope="module")
def ledger(cases):
    return real_claims.derive(cases)["ledger"].set_index("id")


def test_all_claims_but_the_one_about_a_gaussian_are_measured():
    assert set(STATEMENTS) - set(MEASURES) == {"D3"}
    assert set(MEASURES) <= set(STATEMENTS)
    assert [c.problem for c in real_claims.cells(Options(quick=True))] == list(real_claims.QUICK)


def test_verdicts_on_a_network_that_is_not_even_in_zeta(ledger):
    assert ledger["verdict"][list(CHEAP)].to_dict() == CHEAP
    assert ledger.loc["D2", "reading"] == LINEARLY
    assert ledger.loc["T1a", "statement"] == STATEMENTS["T1a"].statement


def test_readings_that_are_rejected_miss_by_far(cases):
    for id, reading in (("T1b", "fully implicit"), ("T1b", "explicit"), ("P2", "x_1 = Phi")):
        rows = cases[(cases["id"] == id) & cases["reading"].str.contains(reading)]
        assert len(rows)
        assert (rows["value"] > 0.01).all()


def test_without_evenness_the_leading_term_and_midpoint_lose_an_order(cases):
    slopes = cases[cases["id"].isin(["D2", "D4"]) & (cases["rule"] != "at most")]
    leading = slopes[(slopes["id"] == "D2") & (slopes["reading"] == EVENLY)]
    midpoint = slopes[(slopes["reading"] == NOT_EVEN) & slopes["case"].str.startswith("midpoint")]
    assert leading["value"].item() == pytest.approx(1, abs=0.15)
    assert midpoint["value"].to_list() == pytest.approx([3, 3], abs=0.15)
    assert (midpoint["kind"] == INSTEAD).all()


def test_cases_repeat(cases):
    (cell,) = real_claims.cells_on(SMALL, Options(quick=True))
    first, second = (measure_cell(cell) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert set(cases["id"]) == {*CHEAP, *SLOPES}


@pytest.mark.parametrize("id", WRONG)
def test_a_wrong_statement_fails_on_the_network_too(id, cases):
    with WRONG[id]():
        wrong = measured(id)
    assert not judge(wrong)["standing"]
    if id in SLOPES:
        right = cases[cases["id"] == id]
        assert right["passed"].sum() > wrong["passed"].sum()
    elif id in CHEAP:
        assert judge(cases[cases["id"] == id])["standing"]


def test_what_has_no_wrong_statement_here_is_measured_by_shared_code_alone():
    # P1 and T5 are the functions of analysis.claims, with states of the network.
    assert set(MEASURES) - set(WRONG) == {"P1", "T5"}
