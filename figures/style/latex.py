"""LaTeX tables with booktabs, set and escaped by pandas; Greek letters and signs in their cells become mathematics."""

from __future__ import annotations

import re

import pandas as pd
from pandas.io.formats.style import Styler

from analysis import typeset

GREEK = {
    "α": "alpha",
    "γ": "gamma",
    "σ": "sigma",
    "ζ": "zeta",
    "χ": "chi",
    "ρ": "rho",
    "η": "eta",
    "λ": "lambda",
    "μ": "mu",
    "Φ": "Phi",
    "Π": "Pi",
}
SIGNS = {
    "∇": r"\nabla",
    "≤": r"\le",
    "≥": r"\ge",
    "≈": r"\approx",
    "±": r"\pm",
    "×": r"\times",
    "→": r"\to",
    "∞": r"\infty",
}
SIGNS |= {sign: sign for sign in "<>|"} | {"−": "-"} | {letter: rf"\{name}" for letter, name in GREEK.items()}
SPELT = {"<=": "≤", "->": "→", " - ": " − ", " * ": " "}
SYMBOLS = {name: rf"\{name}" for name in GREEK.values()} | {"grad": r"\nabla", "sqrt": r"\surd"}
SYMBOLS |= {"x1hat": r"\hat x_1", "x0hat": r"\hat x_0", "xbar": r"\bar x"}
LOWERED = {raised: chr(plain) for plain, raised in typeset.SUPERSCRIPTS.items()}
RAISED = f"[{''.join(map(chr, LOWERED))}]+"
POWER = r"\\textasciicircum (?:\([^()]+\)|-?\w+)"  # as pandas escapes it
SCRIPT = rf"'|\*|\\_\w(?!\w)|{POWER}"
TOKEN = re.compile(rf"(?<![A-Za-z\\])([dD]?)({'|'.join(SYMBOLS)}|[A-Za-z])(?![A-Za-z0-9])((?:{SCRIPT})*)")


def maths(escaped: str) -> str:
    """Return escaped text with its symbols, their indices and powers, and its signs set as mathematics."""
    for spelt, sign in SPELT.items():
        escaped = escaped.replace(spelt, sign)
    shown = re.sub(POWER, lambda power: f"${_script(power[0])}$", TOKEN.sub(_symbol, escaped))
    shown = re.sub(RAISED, lambda run: f"$^{{{run[0].translate(LOWERED)}}}$", shown)
    return "".join(f"${SIGNS[c]}$" if c in SIGNS else c for c in shown)


def number(value: float, spec: str) -> str:
    """Return a number as captions write it, with its signs and powers as mathematics."""
    return maths(typeset.number(value, spec))


def _symbol(found: re.Match[str]) -> str:
    differential, name, scripts = found.groups()
    if name not in SYMBOLS and not scripts:
        return found[0]  # a letter, or the word "a"
    return f"${differential}{SYMBOLS.get(name, name)}{''.join(map(_script, re.findall(SCRIPT, scripts)))}$"


def _script(escaped: str) -> str:
    r"""Return an index or a power; ``^(k + 1)`` is that of a sum, ``^(n)`` keeps its parentheses."""
    if escaped in "'*":
        return {"'": "'", "*": "^*"}[escaped]
    if escaped.startswith(r"\_"):
        return f"_{escaped[2:]}"
    said = escaped.removeprefix(r"\textasciicircum ").replace("−", "-")
    return f"^{{{said if len(said) == len('(n)') else said.strip('()')}}}"


def stacked(*lines: str) -> str:
    r"""Return lines stacked on top of one another by \shortstack."""
    joined = r" \\ ".join(lines)
    return rf"\shortstack{{{joined}}}" if len(lines) > 1 else joined


def interval(middle: float, low: float, high: float, spec: str = ".2f", bold: bool = False) -> str:
    """Return a number stacked on its interval, if there is one; "failed" where the number is NaN."""
    if pd.isna(middle):
        return "failed"
    shown, *ends = (number(value, spec) for value in (middle, low, high))
    value = rf"\textbf{{{shown}}}" if bold else shown
    return value if pd.isna(low) else stacked(value, rf"{{\scriptsize [{', '.join(ends)}]}}")


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
