"""The error of property-guided molecules against work, a line per estimator."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("molecules_summary", "molecules_facts")
QUESTION = "From which budget on does an accurate gradient pay when a molecule's source is optimised?"
answer = style.Caption(
    "At the largest budget {best!g} has the least error, {least:.2f} of the data's spread.",
    "Over stable molecules alone it is {least_stable:.2f}, of {best_stable!g}.",
    "End-to-end errs by {evaluator_end:.2f}, greedy by {evaluator_greedy:.2f}, unguided molecules by {unguided:.2f}.",
    "Mean absolute errors as the evaluator sees them, {molecules!p:molecule}, over all properties as a share of each "
    "one's spread; 95% intervals of eight or more; dashes: unguided. A line ends where more work did not help.",
)
COLUMNS = 3
OTHERS = {
    "late": "late start, all / spread",
    "guidance": "per step, all / spread",
    "controls": "controls, all / spread",
}


@style.figure(legend=3)
def draw(tables: style.Tables) -> Figure:
    """Draw a panel per property for source optimisation, and one of all properties for each of ``OTHERS``."""
    table = only(tables["molecules_summary"], metric="error", over="all")
    source, pooled = only(table, setting="source"), only(table, property="all")
    shown = {names.of("properties", name): only(source, property=name) for name in names.PROPERTIES}
    plain = only(pooled, estimator="unguided")
    shown |= {title: pd.concat([only(pooled, setting=name), plain]) for name, title in OTHERS.items()}
    shown = {title: rows for title, rows in shown.items() if len(rows) > (rows["estimator"] == "unguided").sum()}
    figure, axes = style.panels(len(shown), COLUMNS, 1.6, 0.7)
    for i, (ax, (title, rows)) in enumerate(zip(axes, shown.items(), strict=True)):
        _panel(ax, rows)
        ax.set_title(title)
        if i + COLUMNS >= len(shown):
            ax.set_xlabel("evaluations\n+ products")
        if i % COLUMNS == 0:
            ax.set_ylabel("mean absolute\nerror")
    return figure


def _panel(ax: Axes, table: pd.DataFrame) -> None:
    for name, rows in style.groups(table, "estimator"):
        if name == "unguided":
            ax.axhline(rows["mean"].iloc[0], **style.THEORY)
        else:
            style.band(ax, rows, "work", "mean", label=names.sampler(name), **style.sampler(name))
    guided = table[table["estimator"] != "unguided"]
    ax.set_xscale("log")
    style.ticks(ax.xaxis, sorted(guided["budget"].unique()))
    style.from_zero(ax.yaxis)
