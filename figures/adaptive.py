"""Lookahead that chooses its own steps: its choices, its errors and what it says of them, and its cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import latex as tex
from figures.style import names

TABLES = tuple(f"adaptive{part}" for part in ("_choices", "_families", "_kinds", "_summary", "_facts"))
QUESTION = "Does lookahead that chooses its own steps keep its tolerance, say where it may not, and save evaluations?"
answer = style.Caption(
    "It is within the tolerance in {within_low..within_high:.1%} of the states, at tolerances "
    "{tightest:g} to {loosest:g}.",
    style.choose(
        "knows",
        {
            True: "Of each thin kind at least {covered:.0%} are within it or unsure; {unsure:.1%} of all are unsure.",
            False: "Of a thin kind as few as {covered:.0%} are within it or unsure; {unsure:.1%} of all are unsure.",
        },
    ),
    "It costs {ratio_low..ratio_high:.2f} of the cheapest fixed number of steps in t, chosen with hindsight.",
    "a, steps at tolerance {shown:g}; b, kinds, thin ones below; dashes: {covered_share:.0%}; c, 95th percentile "
    "of error over tolerance; d, cost.",
)
LOOKS = {
    "adaptive": style.method("adaptive") | {"markersize": 5},
    "fixed, in t": style.method("end_to_end", "midpoint"),
    "fixed, in cosine time": style.method("lookahead", "midpoint") | {"linestyle": (0, (4, 1.5))},
}
NUMBERS = (  # head, column and format, in LaTeX
    ("Within", "within", ".3f"),
    ("Error", "error_95", ".2g"),
    ("Eval.", "evaluations", ".0f"),
    ("VJPs", "vjps", ".0f"),
)


@style.figure(legend=5)
def draw(tables: style.Tables) -> Figure:
    """Draw choices over time, error over the tolerance, shares by kind, and cost against the tolerance."""
    figure, places = plt.subplot_mosaic("aab;cdb", figsize=(style.TEXT_WIDTH, 4.6), width_ratios=(1, 1, 0.9))
    _choices(places["a"], tables["adaptive_choices"])
    _families(places["c"], tables["adaptive_families"])
    kinds = tables["adaptive_kinds"]
    _kinds(places["b"], kinds[kinds["tolerance"].isna()], tables["adaptive_facts"]["covered_share"].iloc[0])
    _costs(places["d"], only(tables["adaptive_summary"], problem="all", status="ok"))
    return figure


def _choices(ax: Axes, table: pd.DataFrame) -> None:
    bands, times = list(style.groups(table, "band")), sorted(table["t"].unique())
    below, width = np.zeros(len(times)), np.diff(times).min() if len(times) > 1 else 1.0
    shades = sns.color_palette("mako", as_cmap=True)(np.linspace(0, 1, len(bands)))
    for colour, (name, rows) in zip(shades, bands, strict=True):
        share = rows.set_index("t")["share"].reindex(times, fill_value=0).to_numpy()
        ax.bar(times, share, bottom=below, label=name, width=0.92 * width, color=colour, edgecolor="0.3", linewidth=0.3)
        below = below + share
    ax.set(xlabel="time $t$ of the state", ylabel="share of states", ylim=(0, 1), xlim=(0, 1))
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(handles[::-1], labels[::-1], title="steps", loc="center left", bbox_to_anchor=(1.0, 0.5))


def _families(ax: Axes, table: pd.DataFrame) -> None:
    families = list(table.sort_values("error_95").drop_duplicates("family", keep="last")["family"])
    tolerances = sorted(table["tolerance"].unique())
    for marker, colour, tolerance in zip("vDs^", sns.color_palette("mako_r", 4), tolerances, strict=False):
        rows, look = only(table, tolerance=tolerance), style.marked(colour, marker) | {"markeredgecolor": "0.2"}
        heights = rows["family"].map(families.index)
        label = f"tolerance {tolerance:g}"
        ax.plot(rows["error_95"] / tolerance, heights, label=label, linestyle="none", markeredgewidth=0.4, **look)
    ax.axvline(1, **style.THEORY)
    ax.set(xscale="log", xlabel="95th percentile of the error\nover the tolerance")
    style.plain(ax.xaxis)
    style.ticks(ax.yaxis, range(len(families)), families, fontsize=7)
    ax.grid(axis="y", color="0.92", linewidth=0.5)


def _kinds(ax: Axes, table: pd.DataFrame, wanted: float) -> None:
    rows = table.sort_values(["thin", "either"], ascending=[False, True])
    heights, look = (
        np.arange(len(rows)),
        style.method("adaptive") | {"linestyle": "none", "marker": "o", "markersize": 4},
    )
    ax.hlines(heights, rows["within"], rows["either"], color=look["color"], linewidth=1)
    ax.plot(rows["within"], heights, label="within the tolerance", **look | {"markerfacecolor": "white"})
    ax.plot(rows["either"], heights, label="within it or unsure", **look)
    ax.axvline(wanted, **style.THEORY)
    ax.axhline(rows["thin"].sum() - 0.5, color="0.8", linewidth=0.8)
    ax.set(xlabel="share of states", xlim=(None, 1.01))
    style.ticks(ax.yaxis, heights, list(rows["kind"]), fontsize=7)


def _costs(ax: Axes, table: pd.DataFrame) -> None:
    for kind, rows in style.groups(table, "estimator"):
        rows = rows.sort_values("tolerance")
        ax.plot(rows["tolerance"], rows["evaluations"] + rows["vjps"], label=kind, **LOOKS[kind])
    ax.set(xscale="log", yscale="log", ylabel="evaluations + products")
    style.plain(ax.yaxis)
    _tolerances(ax, np.sort(table["tolerance"].unique()))


def _tolerances(ax: Axes, tolerances: np.ndarray) -> None:
    ax.set_xlabel("tolerance")
    style.ticks(ax.xaxis, tolerances)


def latex(tables: style.Tables) -> dict[str, str]:
    """Return one table: a row per tolerance and way to choose steps, with the share within it, error and cost."""
    pooled = only(tables["adaptive_summary"], problem="all").sort_values("tolerance", kind="stable")
    share = tables["adaptive_facts"]["share"].iloc[0]
    caption = (
        "Adaptive lookahead beside the cheapest fixed number of steps, chosen with hindsight, that keeps the tolerance "
        rf"in {100 * share:.0f}\,\% of the states; a dash where none does. Within: the share of states; error: "
        "its 95th percentile."
    )
    frame = pd.DataFrame([_line(row) for row in pooled.to_dict("records")])
    return {"adaptive": tex.table(frame, "adaptive", caption, "rllrrrr", plain=["Steps", "Solver"])}


def _line(row: dict[Any, Any]) -> dict[str, str]:
    line = {"Tolerance": f"{row['tolerance']:g}", "Steps": row["estimator"], "Solver": ""}
    if isinstance(row["solver"], str):
        line["Solver"] = f"{names.of_solver(row['solver'])} {row['steps']:.0f}"
    for head, key, spec in NUMBERS:
        line[head] = "--" if pd.isna(row[key]) else tex.number(row[key], spec)
    return line
