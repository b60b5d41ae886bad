"""Property-guided molecules: mean absolute errors by setting, estimator and property, beside stability and validity."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from analysis.tables import only
from figures import style
from figures.style import latex as tex
from figures.style import looks, names

TABLES = ("molecules_summary", "molecules_paired", "molecules_facts")
QUESTION = "Does a more accurate gradient make molecules with the wanted property?"
answer = style.Caption(
    "In source optimisation {best!g} has the least error; the largest is of {worst!g}.",
    style.choose(
        "evaluator_order",
        {
            "end": "End-to-end's, {evaluator_end:.2f} of the data's spread, is below greedy's {evaluator_greedy:.2f}.",
            "greedy": "Greedy's, {evaluator_greedy:.2f} of the data's spread, is below end-to-end's "
            "{evaluator_end:.2f}.",
            "none": "End-to-end's, {evaluator_end:.2f} of the data's spread, and greedy's, {evaluator_greedy:.2f}, are "
            "not told apart by a 95% interval.",
            "few": "Too few targets compare end-to-end with greedy.",
        },
    ),
    "Unguided: {unguided:.2f}. For α end-to-end leaves {evaluator_ratio_alpha:.2f} of greedy's error (paper: 0.12).",
    style.choose(
        "guidance_order",
        {
            "end": "Per step end-to-end's is lower.",
            "greedy": "Per step greedy's is lower.",
            "none": "Per step they are not told apart.",
            "few": "Per step too few targets compare them.",
        },
    ),
    style.choose(
        "guidance_stable_order",
        {
            "end": "Where molecules stay whole end-to-end's is lower.",
            "greedy": "Where molecules stay whole greedy's is lower.",
            "none": "Where molecules stay whole they are not told apart.",
            "few": "Where molecules stay whole too few targets compare them.",
        },
    ),
    "Largest budgets (source: {budget} evaluations and products), {molecules!p:molecule}; *: without diverged ones; "
    "bold: the best that lost at most a fifth; coloured: a paired interval excludes 0.",
)
LOST = 0.2  # the largest share of molecules that diverged, of an estimator that can be the best
STABLE = "all_stable"  # the column of errors over stable molecules alone
DIGITS = {"all": 2, STABLE: 2, "alpha": 2, "gap": 0, "homo": 0, "lumo": 0, "mu": 2, "Cv": 2}
SHARES = {"stable_atoms": "stable\natoms", "stable": "stable\nmol.", "valid": "valid"}
SHADES = {"better than greedy": (looks.BLUE, 0.5), "worse than greedy": (looks.ORANGE, 0.25)}  # and how much of it


@style.figure(letters=False)
def draw(tables: style.Tables) -> Figure:
    """Draw the table, a row per setting and estimator and a column per property."""
    rows = list(_rows(tables["molecules_summary"]))
    columns = _columns(tables["molecules_summary"])
    figure, ax = plt.subplots(figsize=(style.TEXT_WIDTH, 0.2 * len(rows) + 0.9))
    for i, (setting, name, part) in enumerate(rows):
        _line(ax, i, part, only(tables["molecules_paired"], setting=setting, estimator=name), columns)
    for j, column in enumerate(columns):
        for setting in names.SETTINGS:
            _bold(ax, [(i, part) for i, (s, _, part) in enumerate(rows) if s == setting], column, j)
    ax.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    labels = [f"{names.SETTINGS[s]}: {names.sampler(n)}" if n != "unguided" else names.sampler(n) for s, n, _ in rows]
    style.ticks(ax.yaxis, range(len(rows)), labels)
    style.ticks(ax.xaxis, range(len(columns)), [_head(c) for c in columns], fontsize=7)
    ax.tick_params(length=0, labeltop=True, labelbottom=False, pad=2)
    ax.spines[:].set_visible(False)
    patches = [Patch(color=_tint(*shade), label=label) for label, shade in SHADES.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=2)
    return figure


def _tint(colour: str, share: float) -> tuple[float, float, float]:
    red, green, blue = (1 - share + share * part for part in to_rgb(colour))
    return red, green, blue


def _columns(summary: pd.DataFrame) -> list[str]:
    there = {*summary["property"]}, {*summary["metric"]}
    there[0].add(STABLE)
    return [*(c for c in DIGITS if c in there[0]), *(c for c in SHARES if c in there[1])]


def _rows(summary: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield setting, estimator and summary, at each setting's largest budget."""
    for setting in names.SETTINGS:
        for name, part in style.groups(only(summary, setting=setting), "estimator"):
            yield setting, name, part[part["budget"] == part["budget"].max()]


def _cell(part: pd.DataFrame, column: str) -> Any:
    """Return the row of a column: the evaluator's error for a property, or a share of all molecules."""
    if column in DIGITS:
        some = only(part, metric="error", **_place(column))
    else:
        some = only(part, metric=column, property="all", over="all")
    return some.iloc[0] if len(some) else None


def _place(column: str) -> dict[str, str]:
    return {"property": column.removesuffix("_stable"), "over": "stable" if column == STABLE else "all"}


def _shown(row: Any, column: str) -> str:
    if column in SHARES:
        return f"{row['mean']:.2f}"
    return (f"{row['mean']:.{DIGITS[column]}f}" if np.isfinite(row["mean"]) else "–") + "*" * bool(row["failed"])


def _line(ax: Axes, i: int, part: pd.DataFrame, paired: pd.DataFrame, columns: list[str]) -> None:
    """Print a row, tinted where the paired interval of the difference to greedy excludes 0."""
    for j, column in enumerate(columns):
        if (row := _cell(part, column)) is None:
            continue
        pair = only(paired, metric="error", budget=row["budget"], **_place(column))
        low, high = pair[["low", "high"]].iloc[0] if len(pair) else (0.0, 0.0)
        shade = "better than greedy" if high < 0 else "worse than greedy" if low > 0 else None
        if shade:
            ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, color=_tint(*SHADES[shade]), linewidth=0))
        ax.text(j, i, _shown(row, column), ha="center", va="center", fontsize=style.SMALL, label=f"{i} {j}")
    ax.plot([], [])


def _lost(part: pd.DataFrame) -> bool:
    """Return whether more than the share ``LOST`` of an estimator's molecules diverged."""
    row = _cell(part, "all")
    return row is not None and bool(row["failed"] > LOST * row["measurements"])


def _bold(ax: Axes, rows: list[tuple[int, pd.DataFrame]], column: str, j: int) -> None:
    """Set the least error of a setting in bold, of the estimators that kept enough of their molecules."""
    kept = [(i, part) for i, part in rows if not _lost(part) and set(part["estimator"]) != {"unguided"}]
    means = {i: row["mean"] for i, part in kept if (row := _cell(part, column)) is not None}
    if column in DIGITS and means:
        best = min(means, key=lambda i: means[i])
        for text in ax.texts:
            if text.get_label() == f"{best} {j}":
                text.set_fontweight("bold")


def latex(tables: style.Tables) -> dict[str, str]:
    """Return one table: a row per setting and estimator, means above their intervals by property."""
    summary = tables["molecules_summary"]
    lines = []
    for setting, name, part in _rows(summary):
        line = {"": names.SETTINGS[setting] if name != "unguided" else "", "Gradient": names.sampler(name)}
        for column in _columns(summary):
            row, head = _cell(part, column), _head(column)
            spec = f".{DIGITS.get(column, 2)}f"
            line[head] = "" if row is None else tex.interval(row["mean"], row["low"], row["high"], spec)
        lines.append(line)
    frame = pd.DataFrame(lines)
    count = int(only(summary, metric="error", property="all", over="all")["measurements"].max())
    caption = f"Property-guided molecules: mean absolute error as the evaluator sees it, over {count} molecules, with "
    caption += (
        r"95\,\% bootstrap intervals, at the largest budget of each setting; molecules that diverged are left out."
    )
    columns = f"ll{'c' * (len(frame.columns) - 2)}"
    return {"molecules_table": tex.table(frame, "molecules_table", caption, columns, plain=["", "Gradient"])}


def _head(column: str) -> str:
    """Return a property with its unit or a share, in two lines."""
    if column == STABLE:
        return "stable\nonly"
    return names.two_lines(names.of("properties", column)) if column in DIGITS else SHARES[column]
