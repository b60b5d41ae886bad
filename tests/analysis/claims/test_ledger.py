"""The ledger's rules and verdicts, held against cases written by hand whose verdict is plain."""

import math
import re

import pandas as pd
import pytest

from analysis import claims
from analysis.claims import FAILS, HOLDS, HOLDS_SO, INSTEAD, NO_READING, PRINTED, READING, Case, Claim, claim
from analysis.claims.statements import STATEMENTS, place


def judged(*cases):
    return claims.judge(Claim("X", "", "", lambda quick, seed: cases).rows(True, 0))


def case(kind, value, limit=1.0, reading=None, **fields):
    return Case(kind, reading or kind, "case", value, value, value, limit, **fields)


@pytest.mark.parametrize(
    ("values", "verdict", "reading"),
    [
        ((0.5, 0.5, 0.5), HOLDS, PRINTED),
        ((2.0, 0.5, 0.5), HOLDS_SO, READING),
        ((2.0, 2.0, 0.5), FAILS, INSTEAD),
        ((2.0, 2.0, 2.0), FAILS, NO_READING),
    ],
)
def test_the_verdict_is_the_first_kind_of_reading_that_holds(values, verdict, reading):
    entry = judged(*(case(kind, value) for kind, value in zip(claims.KINDS, values, strict=True)))
    assert (entry["verdict"], entry["reading"]) == (verdict, reading)
    assert entry["standing"] == (reading != NO_READING)
    assert entry["tested"] == (reading if entry["standing"] else PRINTED)


def test_a_reading_holds_where_all_of_its_cases_do():
    entry = judged(case(PRINTED, 0.5), case(PRINTED, 1.5), case(READING, 0.9), case(READING, 0.2))
    assert (entry["verdict"], entry["cases"], entry["value"]) == (HOLDS_SO, 2, 0.9)


@pytest.mark.parametrize(
    ("rule", "interval", "passes"),
    [
        ("at most", (0.8, 1.05), True),
        ("at most", (0.8, 1.15), False),
        ("at least", (0.95, 3.0), True),
        ("at least", (0.85, 3.0), False),
        ("near", (0.92, 0.95), True),
        ("near", (0.92, 1.09), True),
        ("near", (1.2, 1.3), False),
        ("near", (0.8, 0.95), False),
    ],
)
def test_an_interval_must_lie_within_the_tolerance_of_its_limit(rule, interval, passes):
    entry = judged(Case(PRINTED, "r", "c", sum(interval) / 2, *interval, 1.0, rule, 0.1))
    assert entry["standing"] == passes


@pytest.mark.parametrize(("value", "low", "high"), [(1.56, 0.20, 2.92), (1.24, -0.41, 2.89), (2.0, 1.0, 3.0)])
def test_a_wide_interval_is_near_nothing(value, low, high):
    # Three local orders 2.6, 1.5, 0.6, say: an interval that holds every order decides none.
    assert not judged(Case(PRINTED, "r", "c", value, low, high, 2.0, "near", 0.15))["standing"]


@pytest.mark.parametrize("rule", claims.RULES)
@pytest.mark.parametrize("number", ["value", "low", "high"])
def test_what_is_not_a_number_does_not_pass(rule, number):
    numbers = {"value": 1.0, "low": 1.0, "high": 1.0} | {number: math.nan}
    assert not judged(Case(PRINTED, "r", "c", **numbers, limit=1.0, rule=rule))["standing"]


@pytest.mark.parametrize("rule", claims.RULES)
def test_headroom_is_negative_where_a_case_fails(rule):
    cases = [case(PRINTED, value, rule=rule, tolerance=0.25) for value in (0.5, 0.75, 1.0, 1.25, 1.5)]
    rows = Claim("X", "", "", lambda quick, seed: cases).rows(True, 0)
    expected = {
        "at most": [0.75, 0.5, 0.25, 0.0, -0.25],
        "at least": [-0.25, 0.0, 0.25, 0.5, 0.75],
        "near": [-0.25, 0.0, 0.25, 0.0, -0.25],
    }
    assert claims.headroom(rows).tolist() == expected[rule]
    assert rows["passed"].tolist() == [room >= 0 for room in expected[rule]]


def test_an_unknown_kind_rule_or_interval_or_a_taken_id_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="kind must be one of as printed, instead, reading"):
        case("guess", 1.0)
    with pytest.raises(ValueError, match="rule must be one of at least, at most, near"):
        case(PRINTED, 1.0, rule="about")
    with pytest.raises(ValueError, match="interval_from must be one of bootstrap, line fit, nothing random, ranks"):
        case(PRINTED, 1.0, interval_from="taste")
    monkeypatch.setitem(claims.CLAIMS, "P1", Claim("P1", "", "", lambda quick, seed: []))
    with pytest.raises(ValueError, match="'P1' is taken"):
        claim("P1", "", "")(lambda quick, seed: [])


def test_the_ledger_takes_a_statement_by_its_id():
    frame = claims.ledger(Claim("P1", "", "", lambda quick, seed: [case(PRINTED, 0.5)]).rows(True, 0))
    assert isinstance(frame, pd.DataFrame)
    assert frame["statement"].tolist() == [STATEMENTS["P1"].statement]
    assert frame[["value", "low", "high", "limit"]].to_numpy().tolist() == [[0.5, 0.5, 0.5, 1.0]]


def test_statements_are_plain_text_with_a_source_and_in_their_order():
    for statement, source in STATEMENTS.values():
        assert statement.isascii()
        assert re.match(r"arXiv 2502\.08006 \(|this project \(", source)
    order = ["P1", "T1a", "T1b", "P2", "T3", "C4.1", "T4", "T5", "D1", "D2", "D3", "D4", "D5", "D6", "D7"]
    assert sorted(["Z", *reversed(order), "A"], key=place) == [*order, "A", "Z"]
