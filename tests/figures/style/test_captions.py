"""Captions: what is written for given facts, and what is left out. The truths are sentences written by hand."""

import math

import pandas as pd
import pytest

from figures.style.captions import Caption, choose, facts


def said(*sentences, **values):
    return Caption(*sentences)({"x_facts": pd.DataFrame([values]), "x": pd.DataFrame({"slope": [7.0]})})


def test_numbers_are_written_in_their_formats():
    assert said("A slope of {slope:.2f} over {n} fits.", slope=1.987, n=3) == "A slope of 1.99 over 3 fits."
    assert said("{low..high:.0%} of them.", low=0.871, high=0.874) == "87% of them."
    assert said("{low..high:.1f} of them.", low=0.5, high=2.0) == "0.5 to 2.0 of them."
    assert said("{n!p:case}, {m!p:state}.", n=1, m=12000) == "1 case, 12,000 states."


def test_names_are_those_of_the_glossary():
    assert said("{best!n} is best on {where!n}.", best="likelihood:pigdm", where="ring8") == "ΠGDM is best on ring."
    assert said("Lost: {lost!n}.", lost="d_flow, dps:greedy") == "Lost: D-Flow, DPS."
    assert said("{best!g} wins.", best="midpoint") == "One midpoint step wins."
    assert said("{best!g} wins.", best="likelihood:pigdm") == "ΠGDM wins."


@pytest.mark.parametrize("value", [None, math.nan])
def test_a_sentence_without_its_number_is_left_out(value):
    assert said("All is well.", "{slope:.2f} is the slope.", slope=value) == "All is well."
    assert said("All is well.", "{slope:.2f} is the slope.") == "All is well."


def test_a_verdict_is_chosen_by_its_fact():
    verdict = choose("pays", {"yes": "It pays ({gain:.1f}).", "no": "It does not.", "even": ""})
    assert said(verdict, pays="yes", gain=2.0) == "It pays (2.0)."
    assert said(verdict, pays="no") == "It does not."
    assert said("First.", verdict, "Last.", pays="even") == "First. Last."
    assert said("First.", verdict) == "First."
    with pytest.raises(KeyError, match="perhaps"):
        said(verdict, pays="perhaps")


def test_a_sentence_begins_with_a_capital_but_letters_of_panels_do_not():
    assert said("{best!n} is best.", "a, errors.", best="greedy") == "Greedy is best. a, errors."
    assert said("{subject!s}: an audit.", subject="mine:factory") == "mine:factory: an audit."


def test_the_headline_is_the_first_sentence_and_the_fields_are_all_that_are_named():
    caption = Caption("{a} and {b..c:.1f}.", choose("d", {"x": "{e!n}", "y": ""}))
    assert caption.fields == {"a", "b", "c", "d", "e"}
    tables = {"x_facts": pd.DataFrame([{"a": 1, "b": 2.0, "c": 3.0, "d": "y"}])}
    assert caption.headline(tables) == "1 and 2.0 to 3.0."


def test_facts_keep_the_types_of_their_columns():
    found = facts({"a_facts": pd.DataFrame([{"n": 3, "x": 0.5, "s": "t", "none": math.nan}]), "b": pd.DataFrame()})
    assert found == {"n": 3, "x": 0.5, "s": "t"}
    assert isinstance(found["n"], int)
