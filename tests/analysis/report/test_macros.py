"""Facts as LaTeX macros; the truth is what each line has to say, written by hand."""

import pandas as pd
import pytest

from analysis.report import macros, write_macros


def facts(**columns):
    return {"error_facts": pd.DataFrame({name: [value] for name, value in columns.items()})}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.0, "2"), (1.99963, "2.00"), (0.12345, "0.123"), (-0.5678, "-0.568"), (12345, "12345"), (True, "True"),
        (0.0, "0"),
        (3.21e-7, r"3.21 \cdot 10^{-7}"), (-6.5e9, r"-6.50 \cdot 10^{9}"), (9.996, "10.00"), (float("inf"), r"\infty"),
        ("5% of a_b", r"5\% of a\_b"), ("a\\b~^", r"a\textbackslash{}b\textasciitilde{}\textasciicircum{}"),
    ],
)  # fmt: skip
def test_a_value_is_written_as_a_sentence_states_it(value, text):
    assert macros(facts(slope=value)) == {"errorSlope": text}


def test_names_have_letters_alone():
    frame = pd.DataFrame({"slope_at_0.9": [1.5], "p_95": [2.5]})
    assert set(macros({"greedy_error2_facts": frame})) == {
        "greedyErrorTwoSlopeAtZeroNine",
        "greedyErrorTwoPNineFive",
    }


def test_tables_that_are_no_facts_and_missing_facts_have_no_macro():
    tables = facts(slope=float("nan"), kind=None) | {"error": pd.DataFrame({"slope": [1.0]}), "b_facts": pd.DataFrame()}
    assert macros(tables) == {}


def test_two_facts_of_one_name_are_refused():
    with pytest.raises(ValueError, match=r"two facts have the macro \\errorAB: rename the column 'aB'"):
        macros({"error_facts": pd.DataFrame({"a_b": [1.0], "aB": [2.0]})})


def test_the_file_defines_every_macro(tmp_path):
    write_macros(facts(slope=1.25, solver="rk4"), tmp_path / "numbers.tex")
    comment, *lines = (tmp_path / "numbers.tex").read_text().splitlines()
    assert comment.startswith("%")
    assert lines == [r"\newcommand{\errorSlope}{1.25}", r"\newcommand{\errorSolver}{rk4}"]
