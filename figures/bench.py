"""Times of the bench's contenders as ratios to those of this package."""

from __future__ import annotations

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("bench", "bench_facts")
QUESTION = "What does the same gradient cost elsewhere?"
answer = style.Caption(
    "The fastest peer takes {surface_low..surface_high:.2g} times our time for a surface, "
    "{end_to_end_low..end_to_end_high:.2g} times for one gradient.",
    "A surface takes us {floor_low..floor_high:.2g} times the floor, its matrix products alone, and "
    "{floor_loop_low..floor_loop_high:.2g} times the loop floor, as many evaluations in one long solve.",
    "Last row: over samples, steps and components the time of an operation changes by factors of "
    "{samples_spread:.2g}, {steps_spread:.2g} and {components_spread:.2g}.",
    "Medians of paired repetitions, ranges, {threads!p:thread}; hollow markers compute another gradient "
    "(optimise-then-discretise).",
)
WORKLOADS = {
    "surface": ("lookahead surface", "the whole surface in one pass"),
    "end_to_end": ("one end-to-end gradient", "our end-to-end"),
    "estimators": ("our estimators", "greedy"),
}
SCALED = {"samples": "B", "steps": "steps_max", "components": "K"}
LABELS = {"ours_torch": "ours without numba", "ours_cells": "ours, cell by cell", "floor_loop": "loop floor"}
EXACT = 1e-8  # contenders that differ by more compute another gradient


@style.figure()
def draw(tables: style.Tables) -> Figure:
    """Draw one panel per workload, contenders down, the ratio across, and the cost along each size that is scaled."""
    table = only(tables["bench"], status="ok")
    ratios = table[table["contender"] != "ours"]
    there = [name for name in WORKLOADS if (ratios["workload"] == name).any()]
    scaled = [name for name in SCALED if (table["workload"] == name).any()]
    lines = [only(ratios, workload=name)["contender"].nunique() for name in there]
    height = 0.14 * sum(lines) + 0.55 * len(there) + 0.6 + 1.6 * bool(scaled)
    figure = plt.figure(figsize=(style.TEXT_WIDTH, height))
    grid = figure.add_gridspec(len(there) + bool(scaled), 1, height_ratios=[*lines, *([11] if scaled else [])])
    for i, workload in enumerate(there):
        title, unit = WORKLOADS[workload]
        ax = figure.add_subplot(grid[i])
        _panel(ax, only(ratios, workload=workload))
        ax.set(title=title, xlabel=f"time / {unit}")
    style.shared_legend(figure, 5, title="B × d × K")
    if scaled:
        _scaling(figure, grid[-1], {name: only(table, workload=name) for name in scaled})
    return figure


def _scaling(figure: Figure, place: SubplotSpec, tables: style.Tables) -> None:
    """Draw picoseconds per operation of one end-to-end gradient along each size that is scaled."""
    first: Axes | None = None
    cells = place.subgridspec(1, len(tables))
    for i, (name, rows) in enumerate(tables.items()):
        ax = first = figure.add_subplot(cells[i], sharey=first)
        rows = rows.sort_values(SCALED[name])
        for j, (column, label) in enumerate({"ours_seconds": "ours", "seconds": "without numba"}.items()):
            cost = 1e12 * rows[column] / rows["operations"]
            ax.plot(rows[SCALED[name]], cost, **style.series(j + 3))
            if not i:
                at = (rows[SCALED[name]].iloc[-1], cost.iloc[-1])
                ax.annotate(label, at, (0, 5), textcoords="offset points", ha="right", fontsize=style.SMALL)
        ax.set(xlabel=name, xscale="log", yscale="log")
        style.ticks(ax.xaxis, rows[SCALED[name]])
    ax.set_ylim(top=2 * ax.get_ylim()[1])
    figure.axes[-len(tables)].set_ylabel("ps / operation")


def _panel(ax: Axes, table: pd.DataFrame) -> None:
    contenders = style.values(table, "contender")
    problems = list(style.groups(table, "problem"))
    for i, (problem, rows) in enumerate(problems):
        series, shift = style.series(i), 0.22 * (i - (len(problems) - 1) / 2)
        rows = rows.rename(columns={"ratio_min": "low", "ratio_max": "high"})
        for other, part in style.groups(rows.assign(other=rows["agreement"] > EXACT), "other"):
            y = part["contender"].map(contenders.index) + shift
            look = style.marked(series["color"], series["marker"], hollow=bool(other))
            label = None if other else str(problem).replace("x", " × ")
            style.errorbars(ax, y, part, "ratio", along="x", label=label, **look)
    ax.axvline(1, **style.THEORY)
    ax.set_xscale("log")
    style.rows_of_names(ax, [LABELS.get(name) or names.method(name) for name in contenders])
    ax.grid(axis="y", linewidth=0.3, color="0.9")
    for at, name in enumerate(contenders):
        if name.startswith("floor"):
            ax.axhspan(at - 0.5, at + 0.5, color="0.94", zorder=0)
