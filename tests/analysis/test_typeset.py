"""Numbers and spelt-out mathematics as print has them. The truths are texts written by hand."""

import math

import pytest

from analysis.typeset import number, signs, symbols


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [
        (-0.0001, ".2f", "0.00"),
        (-0.5, ".2f", "−0.50"),
        (1e-5, ".0e", "10⁻⁵"),
        (2.34e12, ".1e", "2.3 × 10¹²"),
        (-2e10, ".4g", "−2 × 10¹⁰"),
        (-0.001, ".0%", "0%"),
        (0.3, "+.1f", "+0.3"),
        (math.inf, ".2f", "∞"),
        (-math.inf, ".4g", "−∞"),
        ("a-b", "", "a-b"),
    ],
)
def test_signs_exponents_and_zeros(value, spec, text):
    assert number(value, spec) == text


def test_a_written_number_keeps_its_digits():
    assert signs("-1.50e-07") == "−1.50 × 10⁻⁷"


@pytest.mark.parametrize(
    ("said", "set_"),
    [
        ("1/sqrt(1 + zeta^2/lambda)", "1/√(1 + ζ<sup>2</sup>/λ)"),
        ("O(h^(p + 1)), n^-p, h = 1 - t", "O(h<sup>p + 1</sup>), n<sup>−p</sup>, h = 1 − t"),
        ("<grad L(x1hat), x_t> <= 5e-4", "&lt;∇ L(x̂₁), x<sub>t</sub>&gt; ≤ 5 × 10⁻⁴"),
        ("euler_zeta, vp_linear, zeta = 0.3", "euler_zeta, vp_linear, ζ = 0.3"),
        ("a <b> & an estimate", "a &lt;b&gt; &amp; an estimate"),
    ],
)
def test_symbols_indices_and_powers_become_html_and_keys_stay(said, set_):
    assert symbols(said) == set_
