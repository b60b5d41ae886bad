r"""The facts of a run as LaTeX macros, so that a sentence in a paper follows its data.

The cell ``slope`` of the table ``greedy_error_facts`` becomes ``\greedyErrorSlope``. Macros hold text, without
mathematics: a paper writes ``$\greedyErrorSlope$``.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import results
from analysis.tables import FACTS

DIGITS = 3  # significant, as a sentence states them; the tables hold the rest
_SPELT = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
_SPECIAL = {c: rf"\{c}" for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}
_SPECIAL |= {"^": r"\textasciicircum{}"}
HEAD = "% Facts of a run; \\input this file, and write a number as $\\greedyErrorSlope$, say."


def macros(tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Make the LaTeX macros of the tables whose names end in ``_facts``.

    Missing facts have no macro. Numbers are rounded to three significant digits.

    Returns
    -------
    dict
        From a macro's name, without backslash, to its text.

    Raises
    ------
    ValueError
        If two facts have one macro name.
    """
    known: dict[str, str] = {}
    for table, frame in sorted(tables.items()):
        if not table.endswith(FACTS) or frame.empty:
            continue
        for column, value in frame.iloc[0].items():
            if pd.isna(value):
                continue
            name = _name(f"{table.removesuffix(FACTS)}_{column}")
            if name in known:
                raise ValueError(f"two facts have the macro \\{name}: rename the column {column!r} of {table}")
            known[name] = _text(value)
    return known


def write_macros(tables: Mapping[str, pd.DataFrame], path: Path) -> None:
    """Write the macros of ``tables`` to a file that LaTeX can input; raises as ``write_text`` does."""
    lines = [HEAD, *(rf"\newcommand{{\{name}}}{{{text}}}" for name, text in macros(tables).items())]
    text = "\n".join(lines) + "\n"
    results.write_text(path, text)


def _name(key: str) -> str:
    spelt = re.sub(r"\d", lambda digit: f"_{_SPELT[int(digit[0])]}_", key)
    first, *rest = re.findall(r"[A-Za-z]+", spelt)
    return first[0].lower() + first[1:] + "".join(word[0].upper() + word[1:] for word in rest)


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return "".join(_SPECIAL.get(c, c) for c in str(value))
    number = float(value)
    if not math.isfinite(number):
        return r"\infty" if number > 0 else r"-\infty"
    if number.is_integer() and abs(number) < 1e5:  # counts, which a table with a missing cell holds as floats
        return str(int(number))
    if number != 0 and not 1e-3 <= abs(number) < 1e5:
        mantissa, exponent = f"{number:.{DIGITS - 1}e}".split("e")
        return rf"{mantissa} \cdot 10^{{{int(exponent)}}}"
    places = max(0, DIGITS - 1 - math.floor(math.log10(abs(number)))) if number else 0
    return f"{number:.{places}f}"
