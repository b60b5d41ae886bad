"""The ledger at a glance: every claim, its number against the limit it is held to, and its verdict."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

TABLES = ("claims", "claims_ledger")
QUESTION = "Which statements of the theory hold, in which reading, and by how much?"
Tables = Mapping[str, pd.DataFrame]
LOOKS: dict[str, dict[str, Any]] = {
    "holds": {"color": style.BLUE, "marker": "o"},
    "holds in this reading": {"color": style.GREEN, "marker": "D"},
    "does not hold as printed": {"color": style.ORANGE, "marker": "^"},
    "none of the readings holds": {"color": style.RED, "marker": "X"},
}
CHARACTERS, SIZE = 57, 7.0  # of a line of text, and its points
LINE, GAP = 0.119, 0.1  # inches
EDGES = (1e-6, 1e4)  # of the axis; what lies beyond is drawn at its edge
GREEK = {"alpha": "α", "gamma": "γ", "sigma": "σ", "zeta": "ζ", "eta": "η", "Phi": "Φ", "lambda": "λ", "grad": "∇"}
SIGNS = {"at most": "≤", "at least": "≥", "near": "≈"}


def used(rows: pd.DataFrame) -> pd.Series:
    """Return the share of the allowance that each case uses: at most 1 where it passes."""
    room, slack = rows["limit"], rows["tolerance"]
    share = {
        "at most": rows["high"] / (room + slack),
        "at least": (room - slack) / rows["low"].where(rows["low"] > 0, 0.0),
        "near": (rows["value"] - room).abs() / slack,
    }
    found = pd.Series(np.inf, index=rows.index)
    for rule, value in share.items():
        found = found.where(rows["rule"] != rule, value)
    return found.fillna(np.inf).clip(*EDGES)


def answer(tables: Tables) -> str:
    """Count the verdicts, and name what is not as printed."""
    ledger = tables["claims_ledger"]
    verdicts = ledger.apply(_verdict, axis=1)
    counted = "; ".join(f"{v}: {', '.join(ledger['id'][verdicts == v])}" for v in LOOKS if (verdicts == v).any())
    return (
        f"{len(ledger)} claims, {len(tables['claims'])} cases. {counted[0].upper()}{counted[1:]}. Each dot is a case "
        "of the reading (→) that the verdict rests on, the large symbol the case that decides it (its number is "
        "given), and a cross a case of the statement as printed where that fails. The axis is the share of its "
        "allowance that a case uses: beyond 1 it fails; what lies beyond the axis is drawn at its edge."
    )


def _verdict(row: pd.Series) -> str:
    return row["verdict"] if row["standing"] else "none of the readings holds"


def draw(tables: Tables) -> Figure:
    """Draw a row per claim: id and statement with its reading, the shares on a log axis, and the deciding number."""
    style.apply()
    ledger, cases = tables["claims_ledger"], tables["claims"]
    texts = [_text(row) for _, row in ledger.iterrows()]
    heights = np.array([LINE * max(len(text), 2) + GAP for text in texts])
    total = min(heights.sum() + 0.75, style.PAGE_HEIGHT)
    figure, axes = plt.subplots(
        1,
        3,
        figsize=(style.TEXT_WIDTH, total),
        sharey=True,
        width_ratios=[3.45, 1.05, 1.0],
        gridspec_kw={"wspace": 0.02},
    )
    ends = np.cumsum(heights)
    for row, text, top, height in zip(ledger.itertuples(), texts, ends - heights, heights, strict=True):
        _words(axes[0], row.id, text, top)
        _shares(axes[1], cases[cases["id"] == row.id], row, top + height / 2)
        _number(axes[2], row, top + height / 2)
    _finish(figure, axes, ends)
    return figure


def symbols(text: str) -> str:
    """Return text with the Greek letters that it names."""
    return re.sub(rf"(?<![A-Za-z])([dD]?)({'|'.join(GREEK)})(?![a-z])", lambda m: m[1] + GREEK[m[2]], text)


def _text(row: pd.Series) -> list[tuple[str, bool]]:
    """Return the wrapped lines of the statement, and of the reading where the verdict names one (true)."""
    reading = "" if row["verdict"] == "holds" else f"→ {row['reading']}"
    parts = {False: row["statement"], True: reading}
    return [(line, own) for own, text in parts.items() for line in textwrap.wrap(symbols(text), CHARACTERS)]


def _words(ax: Axes, name: str, text: list[tuple[str, bool]], top: float) -> None:
    ax.text(0, top + GAP / 2 + LINE, name, va="baseline", fontsize=SIZE, fontweight="bold")
    for i, (line, reading) in enumerate(text):
        look: dict[str, Any] = {"style": "italic", "color": "0.3"} if reading else {}
        ax.text(0.115, top + LINE * (i + 1) + GAP / 2, line, va="baseline", fontsize=SIZE, **look)


def _shares(ax: Axes, cases: pd.DataFrame, row: Any, y: float) -> None:
    chosen = cases[cases["reading"] == row.reading]
    failed = cases[(cases["kind"] == "as printed") & ~cases["passed"]]
    look = LOOKS[_verdict(pd.Series({"verdict": row.verdict, "standing": row.standing}))]
    ax.plot(used(failed), np.full(len(failed), y), "x", color="0.55", ms=3, mew=0.7)
    ax.plot(used(chosen), np.full(len(chosen), y), ".", color=look["color"], ms=3, alpha=0.6, mew=0)
    ax.plot(used(pd.DataFrame([row._asdict()])), [y], ms=5.5, mec="white", mew=0.5, linestyle="", **look)


def _number(ax: Axes, row: Any, y: float) -> None:
    slack = {"at most": " + ", "at least": " − ", "near": " ± "}[row.rule] + f"{row.tolerance:.2g}"
    held = f"{SIGNS[row.rule]} {row.limit:.2g}" + (slack if row.tolerance > 1e-3 else "")
    ax.text(0.02, y, f"{row.value:.3g}\n{held}", va="center", fontsize=SIZE, linespacing=1.15)


def _finish(figure: Figure, axes: np.ndarray, ends: np.ndarray) -> None:
    for ax in axes:
        ax.set(ylim=(ends[-1], 0), yticks=[])
        for spine in ax.spines.values():
            spine.set_visible(False)
        for y in ends[:-1]:
            ax.axhline(y, color="0.85", linewidth=0.5)
    for ax in (axes[0], axes[2]):
        ax.set(xlim=(0, 1), xticks=[])
    axes[1].axvline(1, **style.THEORY)
    axes[1].set(xscale="log", xlim=(EDGES[0] / 3, EDGES[1] * 3), xlabel="share of allowance used")
    axes[1].set_xticks([1e-6, 1e-3, 1, 1e3])
    axes[1].spines["bottom"].set_visible(True)
    axes[2].set_title("measured, held to", loc="left", fontsize=SIZE)
    handles = [plt.Line2D([], [], linestyle="", ms=5, label=label, **look) for label, look in LOOKS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
