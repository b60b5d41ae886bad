"""Times of the bench's contenders as ratios to those of this package."""

from __future__ import annotations

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("bench", "bench_facts")
QUESTION = "What does the same gradient cost elsewhere?"
answer = style.Caption(
    "The fastest peer takes {surface_low..surface_high:.2g} times our time for a surface, "
    "{end_to_end_low..end_to_end_high:.2g} times for one gradient.",
    "That is by size of the problem.",
    "The surface takes us {floor_low..floor_high:.2g} times the floor, its matrix products alone.",
    "Medians of paired repetitions with their least and largest, {threads!p:thread}; sizes are B × d × K. Hollow "
    "markers compute another gradient (optimise-then-discretise); where steps are cut, ours is cut alike.",
)
WORKLOADS = {
    "surface": ("lookahead surface", "the whole surface in one pass"),
    "end_to_end": ("one end-to-end gradient", "our end-to-end"),
    "estimators": ("our estimators", "greedy"),
}
EXACT = 1e-8  # contenders that differ by more compute another gradient


@style.figure()
def draw(tables: style.Tables) -> Figure:
    """Draw one panel per workload, contenders down, the ratio across, a marker per size."""
    table = only(tables["bench"], status="ok")
    table = table[table["contender"] != "ours"]
    there = [name for name in WORKLOADS if (table["workload"] == name).any()]
    lines = [only(table, workload=name)["contender"].nunique() for name in there]
    size = (style.TEXT_WIDTH, 0.17 * sum(lines) + 0.6 * len(there) + 0.4)
    figure, axes = plt.subplots(len(there), 1, figsize=size, squeeze=False, height_ratios=lines)
    for ax, workload in zip(axes[:, 0], there, strict=True):
        title, unit = WORKLOADS[workload]
        _panel(ax, only(table, workload=workload))
        ax.set(title=title, xlabel=f"time / {unit}")
    style.shared_legend(figure, 5, title="B × d × K")
    return figure


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
    style.rows_of_names(ax, [names.method(name) for name in contenders])
    ax.grid(axis="y", linewidth=0.3, color="0.9")
    if "floor" in contenders:
        at = contenders.index("floor")
        ax.axhspan(at - 0.5, at + 0.5, color="0.94", zorder=0)
