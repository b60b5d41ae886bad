"""Numbers as print has them, and the mathematics that plain text spells out, as HTML.

This module never imports torch, so that figures can use it.
"""

from __future__ import annotations

import html
import re
from typing import Any

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_GREEK = {"alpha": "α", "gamma": "γ", "sigma": "σ", "zeta": "ζ", "eta": "η", "Phi": "Φ", "lambda": "λ", "grad": "∇"}
_SIGNS = {"<=": "≤", "->": "→", " - ": " − ", "sqrt": "√", "x1hat": "x̂₁", "x0hat": "x̂₀", "xbar": "x̄"}
_POWER = re.compile(r"\^\(([^()]*(?:\([^()]*\))?[^()]*)\)|\^(-?\w+)")


def number(value: Any, spec: str) -> str:
    """Format a value, with exponents of ten as superscripts, proper minus signs, and no sign for zero."""
    text = format(value, spec)
    return text if isinstance(value, str) else signs(re.sub(r"^-(?=[0.]+%?$)", "", text))


def signs(text: str) -> str:
    """Return a number as Python writes it with its exponent of ten, minus sign and infinity set."""
    mantissa, _, exponent = text.replace("inf", "∞").partition("e")
    mantissa = mantissa.replace("-", "−")
    if not exponent:
        return mantissa
    power = f"10{str(int(exponent)).translate(SUPERSCRIPTS)}"
    return power if mantissa == "1" else f"{mantissa} × {power}"


def symbols(text: str) -> str:
    """Return plain text as HTML, with the Greek letters, signs, powers and indices that it spells out set."""
    for plain, sign in _SIGNS.items():
        text = text.replace(plain, sign)
    text = html.escape(text, quote=False)
    text = re.sub(rf"(?<![A-Za-z_])([dD]?)({'|'.join(_GREEK)})(?![a-z])", lambda m: m[1] + _GREEK[m[2]], text)
    text = re.sub(r"(?<![\w.])\d[\d.]*e-?\d+\b", lambda m: signs(m[0]), text)
    text = _POWER.sub(lambda m: f"<sup>{(m[1] or m[2]).replace('-', '−')}</sup>", text)
    return re.sub(r"(?<=[A-Za-zα-ωΑ-Ω])_(\w)(?!\w)", r"<sub>\1</sub>", text)
