"""Statements in plain text, escaped for LaTeX, with their symbols, indices and powers set as mathematics."""

import pytest
from pandas.io.formats.style_render import _escape_latex

from figures.style.latex import interval, maths, number


@pytest.mark.parametrize(
    ("said", "set_"),
    [
        ("x_t = sigma_t x_s", "$x_t$ = $\\sigma_t$ $x_s$"),
        ("dPhi = -eta Dx1hat^T grad L", r"$d\Phi$ = -$\eta$ $D\hat x_1^{T}$ $\nabla$ L"),
        ("O(h^(p+1)), h^2, n^-p", "O($h^{p+1}$), $h^{2}$, $n^{-p}$"),
        ("x^(n) -> x_1*", r"$x^{(n)}$ $\to$ $x_1^*$"),
        ("sigma'(1)^2 <= (s - t)^(p + 1)", r"$\sigma'$(1)$^{2}$ $\le$ (s $-$ t)$^{p + 1}$"),
        ("h^(s - t)", "$h^{s - t}$"),
        ("ζ ≤ 1 − t", r"$\zeta$ $\le$ 1 $-$ t"),
        ("a d_flow of x2, greedy's", r"a d\_flow of x2, greedy's"),
    ],
)
def test_symbols_indices_and_powers_become_mathematics_and_words_stay(said, set_):
    assert maths(_escape_latex(said)) == set_


def test_units_with_greek_letters_and_powers_are_set():
    assert maths("μ, Bohr³") == r"$\mu$, Bohr$^{3}$"


@pytest.mark.parametrize(
    ("value", "spec", "set_"),
    [(-0.25, ".2f", "$-$0.25"), (1.5e-7, ".2g", r"1.5 $\times$ 10$^{-7}$"), (float("inf"), ".2g", r"$\infty$")],
)
def test_signs_and_powers_of_numbers_are_set(value, spec, set_):
    assert number(value, spec) == set_


def test_both_ends_of_an_interval_have_the_format_and_the_signs_of_its_number():
    assert interval(-0.25, -0.5, 0.125) == r"\shortstack{$-$0.25 \\ {\scriptsize [$-$0.50, 0.12]}}"
    assert interval(float("nan"), 0, 0) == "failed"
