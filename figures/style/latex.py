"""LaTeX tables with booktabs, set and escaped by pandas; Greek letters and signs in their cells become mathematics."""

from __future__ import annotations

import re

import pandas as pd
from pandas.io.formats.style import Styler

GREEK = {"α": "alpha", "γ": "gamma", "σ": "sigma", "ζ": "zeta", "η": "eta", "λ": "lambda", "Φ": "Phi", "Π": "Pi"}
SIGNS = {"∇": r"\nabla", "≤": r"\le", "≥": r"\ge", "≈": r"\approx", "±": r"\pm", "×": r"\times", "→": r"\to"}
SIGNS |= {sign: sign for sign in "<>|"} | {"−": "-"} | {letter: rf"\{name}" for letter, name in GREEK.items()}


def maths(escaped: str) -> str:
    """Return escaped text with its signs and Greek letters, spelt out or not, set as mathematics."""
    shown = re.sub(rf"(?<![A-Za-z\\])([dD]?)({'|'.join(GREEK.values())})(?![a-z])", r"\1$\\\2$", escaped)
    shown = re.sub(r"(?<![A-Za-z\\])grad(?![a-z])", r"$\\nabla$", shown)
    return "".join(f"${SIGNS[c]}$" if c in SIGNS else c for c in shown)


def stacked(*lines: str) -> str:
    r"""Return lines stacked on top of one another by \shortstack."""
    joined = r" \\ ".join(lines)
    return rf"\shortstack{{{joined}}}" if len(lines) > 1 else joined


def interval(middle: float, low: float, high: float, digits: int = 2, bold: bool = False) -> str:
    """Return a number stacked on its interval, or "failed" where the number is NaN."""
    if pd.isna(middle):
        return "failed"
    shown = f"{middle:.{digits}f}"
    value = rf"\textbf{{{shown}}}" if bold else shown
    return stacked(value, rf"{{\scriptsize [{low:.{digits}f}, {high:.{digits}f}]}}")


def table(frame: pd.DataFrame, name: str, caption: str, columns: str, plain: list[str] | None = None) -> str:
    """Build a LaTeX table float with its caption above it.

    Parameters
    ----------
    frame : the cells, text; the index is not printed
    name : the label is "tab:name"
    caption : LaTeX
    columns : column specification of the tabular
    plain : columns of plain text, which are escaped here; the others are LaTeX already

    Returns
    -------
    str
        The LaTeX of the table.
    """
    styled = frame.style.hide(axis="index").format_index(lambda head: stacked(*maths(head).split("\n")), axis="columns")
    styled = styled.format(maths, escape="latex", subset=plain or [])
    return _floated(styled, name, caption, columns)


def _floated(styled: Styler, name: str, caption: str, columns: str) -> str:
    place = {"position": "t", "position_float": "centering", "caption": caption, "label": f"tab:{name}"}
    return styled.to_latex(hrules=True, column_format=columns, **place)
