"""The ledger at a glance: every claim, its measured number against its limit, and its verdict."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from analysis.typeset import signs
from figures import style
from figures.style import latex as tex
from figures.style import looks

TABLES = ("claims_ledger", "claims_shares", "claims_facts")
QUESTION = "Which statements of the theory hold, in which reading, and by how much?"
answer = style.Caption(
    "Of {claims!p:claim} these hold as printed: {holds_ids!s} ({cases!p:case}).",
    "In the reading given (→) hold {in_reading_ids!s}.",
    "Not as printed, but as given: {not_as_printed_ids!s}.",
    "In no reading holds {fails_ids!s}.",
    "Dots: cases of the reading that decides; large: the deciding case, whose whole interval must keep the limit; "
    "crosses: cases that fail as printed. A share above 1 fails.",
)
VERDICTS = {
    "holds": ("holds as printed", style.marked(looks.BLUE, "o")),
    "holds in this reading": ("holds in this reading (→)", style.marked(looks.GREEN, "D")),
    "does not hold as printed": ("fails as printed; → holds instead", style.marked(looks.ORANGE, "^")),
    "none": ("fails in every reading", style.marked(looks.RED, "X")),
}
CHARACTERS = 70  # of a line of text
LINE, GAP = 0.125, 0.1  # inches
EDGES = (1e-6, 1e4)  # of the axis; what lies beyond is drawn at its edge
SIGNS = {"at most": "≤", "at least": "≥", "near": "≈"}
SLACKS = {"at most": "+", "at least": "−", "near": "±"}
TINY = 1e-3  # a tolerance that is shown only where the verdict hangs on it
GREEK = {"alpha": "α", "gamma": "γ", "sigma": "σ", "zeta": "ζ", "eta": "η", "Phi": "Φ", "lambda": "λ", "grad": "∇"}
SYMBOLS = {"<=": "≤", "->": "→", "sqrt": "√", " - ": " − ", "→": r"$\rightarrow$", "∇": r"$\nabla$"}
WIDTHS = (0.32, 0.13, 0.12, 0.25)  # of LaTeX's columns that wrap


@style.figure(letters=False)
def draw(tables: style.Tables) -> Figure:
    """Draw a row per claim: id and statement with its reading, the shares on a log axis, and the deciding number."""
    ledger, shares = tables["claims_ledger"], tables["claims_shares"]
    ledger = ledger.assign(verdict=ledger["verdict"].where(ledger["standing"], "none"))
    texts = [_text(row) for row in ledger.to_dict("records")]
    heights = np.array([LINE * max(len(text), 2) + GAP for text in texts])
    size = (style.TEXT_WIDTH, min(heights.sum() + 0.75, style.PAGE_HEIGHT))
    figure, axes = plt.subplots(1, 3, figsize=size, sharey=True, width_ratios=[3.6, 0.8, 1.1])
    ends = np.cumsum(heights)
    for row, text, top, height in zip(ledger.to_dict("records"), texts, ends - heights, heights, strict=True):
        _words(axes[0], row["id"], text, top)
        _shares(axes[1], only(shares, id=row["id"]), VERDICTS[row["verdict"]][1], top + height / 2)
        axes[2].text(0.02, top + height / 2, _number(row), va="center", fontsize=style.SMALL, linespacing=1.15)
    _finish(axes, ends)
    shown = [VERDICTS[verdict] for verdict in VERDICTS if verdict in set(ledger["verdict"])]
    handles = [plt.Line2D([], [], linestyle="", label=label, **look | {"markersize": 5}) for label, look in shown]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def symbols(text: str) -> str:
    """Set the Greek letters, hats, bars, powers and indices that a text spells out as mathematics."""
    shown = re.sub(rf"(?<![A-Za-z])([dD]?)({'|'.join(GREEK)})(?![a-z])", lambda m: m[1] + GREEK[m[2]], text)
    for plain, sign in SYMBOLS.items():
        shown = shown.replace(plain, sign)
    shown = re.sub(r"(x|x0|x1)(hat|bar)", lambda m: rf"$\{m[2]}{{x}}{'_' + m[1][1:] if m[1][1:] else ''}$", shown)
    shown = re.sub(r"\^\(([^()]*(?:\([^()]*\))?[^()]*)\)", r"$^{(\1)}$", shown)
    shown = re.sub(r"\^(-?\w)", r"$^{\1}$", shown)
    return re.sub(r"(?<=[A-Za-zα-ωΑ-Ω])_(\w)(?!\w)", r"$_{\1}$", shown)


def _text(row: dict[str, Any]) -> list[tuple[str, bool]]:
    """Return the wrapped lines of the statement (False) and, unless it holds as printed, of the reading (True)."""
    reading = "" if row["verdict"] == "holds" else f"→ {row['reading']}"
    if not row["standing"]:
        reading += f"; the number is of: {row['tested']}"
    parts = {False: row["statement"], True: reading}
    joined = {own: re.sub(r"\^\([^)]*\)", lambda m: m[0].replace(" ", "\u00a0"), text) for own, text in parts.items()}
    return [(symbols(line), own) for own, text in joined.items() for line in textwrap.wrap(text, CHARACTERS)]


def _words(ax: Axes, name: str, text: list[tuple[str, bool]], top: float) -> None:
    ax.text(0, top + GAP / 2 + LINE, name, va="baseline", fontsize=style.SMALL, fontweight="bold")
    for i, (line, reading) in enumerate(text):
        look: style.Look = {"style": "italic", "color": "0.3"} if reading else {}
        ax.text(0.1, top + LINE * (i + 1) + GAP / 2, line, va="baseline", fontsize=style.SMALL, **look)


def _shares(ax: Axes, shares: pd.DataFrame, look: style.Look, y: float) -> None:
    small = {"color": look["color"], "marker": ".", "markersize": 3, "alpha": 0.6, "markeredgewidth": 0}
    failed = {"color": "0.55", "marker": "x", "markersize": 3, "markeredgewidth": 0.7}
    large = look | {"markersize": 5.5, "markeredgecolor": "white", "markeredgewidth": 0.5}
    for mark, own in (("failed", failed), ("reading", small), ("decides", large)):
        x = only(shares, mark=mark)["share"].clip(*EDGES)
        ax.plot(x, np.full(len(x), y), linestyle="none", **own)


def _number(row: dict[str, Any]) -> str:
    """Return the number with its interval, and below it the limit, in as many digits as show the verdict."""
    if not np.isfinite(row["value"]):
        return "no number"
    for digits in range(3, 16):
        known = {key: f"{row[key]:.{digits}g}" for key in ("value", "low", "high")}
        known |= {key: f"{row[key]:.{digits - 1}g}" for key in ("limit", "tolerance")}
        if row["tolerance"] <= TINY and digits == 3:
            known["tolerance"] = "0"
        if _keeps(row["rule"], {key: float(text) for key, text in known.items()}) == row["standing"]:
            break
    said = {key: signs(text) for key, text in known.items()}
    interval = f" [{said['low']}, {said['high']}]" if row["low"] < row["high"] else ""
    slack = f" {SLACKS[row['rule']]} {said['tolerance']}" if float(known["tolerance"]) else ""
    return f"{said['value']}{interval}\n{SIGNS[row['rule']]} {said['limit']}{slack}"


def _keeps(rule: str, known: dict[str, float]) -> bool:
    """Return whether an interval keeps its limit, with an allowance for the arithmetic of these few digits."""
    limit, slack = known["limit"], known["tolerance"] + 1e-12 * abs(known["limit"])
    above, below = known["high"] <= limit + slack, known["low"] >= limit - slack
    return {"at most": above, "at least": below, "near": above and below}[rule]


def _finish(axes: np.ndarray, ends: np.ndarray) -> None:
    for ax in axes:
        ax.set(ylim=(ends[-1], 0), yticks=[])
        ax.spines[:].set_visible(False)
        for y in ends[:-1]:
            ax.axhline(y, color="0.85", linewidth=0.5)
    for ax in (axes[0], axes[2]):
        ax.set(xlim=(0, 1), xticks=[])
    axes[1].axvline(1, **style.THEORY)
    axes[1].set(xscale="log", xlim=(EDGES[0] / 3, EDGES[1] * 3), xlabel="share of the\nallowance used")
    style.ticks(axes[1].xaxis, [1e-5, 1, 1e4], ["$10^{-5}$", "1", "$10^4$"])
    axes[1].spines["bottom"].set_visible(True)
    axes[2].set_title("measured,\nheld to", loc="left", fontsize=style.SMALL)


def latex(tables: style.Tables) -> dict[str, str]:
    """Return the ledger as a LaTeX table: id, statement, number, limit, and verdict with its reading."""
    ledger = tables["claims_ledger"]
    verdict = ledger["verdict"].where(ledger["verdict"] == "holds", ledger["verdict"] + ": " + ledger["reading"])
    numbers = [_number(row) for row in ledger.to_dict("records")]
    cells = pd.DataFrame(
        {
            "": ledger["id"],
            "Statement": ledger["statement"],
            "Measured": [number.split("\n")[0] for number in numbers],
            "Held to": [number.split("\n")[-1] for number in numbers],
            "Verdict": verdict,
        }
    )
    columns = "l" + "".join(rf"p{{{width}\linewidth}}" for width in WIDTHS)
    caption = "Statements of the theory, the numbers that decide them, and the verdicts."
    return {"claims_ledger": tex.table(cells, "claims", caption, columns, plain=list(cells))}
