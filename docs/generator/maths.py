"""Formulas as MathML, which browsers set by themselves: no script, no font and no request."""

from __future__ import annotations

from typing import Any

from latex2mathml.converter import convert


def inline(source: str, language: str, css: str, md: Any) -> str:
    """Return a formula for a line of text; the arguments are those of InlineHilite."""
    return convert(source)


def display(source: str, language: str, css: str, options: Any, md: Any, **more: Any) -> str:
    """Return a formula for a line of its own; the arguments are those of SuperFences."""
    if "&" in source or r"\\" in source:
        source = rf"\begin{{split}}{source}\end{{split}}"
    return f'<div class="formula">{convert(source, display="block")}</div>'
