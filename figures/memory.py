"""Peak bytes against steps for the four checkpointing strategies."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style

TABLES = ("memory_growth", "memory_facts")
QUESTION = "How does memory grow with the number of steps, and what is paid for saving it?"
answer = style.Caption(
    "Peak memory grows as the steps to the power {store_power:.2f} stored, {checkpoint_power:.2f} with checkpoints.",
    "Recursively (four slots) the power is {recursive_power:.2f}, reversibly {reversible_power:.2f}, over the last "
    "doubling.",
    "They take {store_work:.1f}, {checkpoint_work:.1f}, {recursive_work:.1f} and {reversible_work:.1f} times the "
    "evaluations of the forward solve.",
    "All are midpoint on the {problem!n}; the reversible solver is another map of the same order.",
    "The dashed line is proportional to the steps; c: median and quartiles.",
)
COLUMNS = {"megabytes": "peak memory (MB)", "evaluations": "evaluations", "value": "relative error"}


@style.figure(legend=4)
def draw(tables: style.Tables) -> Figure:
    """Draw bytes, evaluations and error against steps; strategies that agree are drawn around one another."""
    figure, axes = style.panels(3, 3, 2.1)
    table = tables["memory_growth"]
    table = table.assign(megabytes=table["bytes"] / 1e6)
    for ax, (column, label) in zip(axes, COLUMNS.items(), strict=True):
        for i, (name, rows) in enumerate(style.groups(table, "strategy")):
            look = style.marked(*style.CHECKPOINTING[name], hollow=True) | {"markersize": 7 - 1.5 * i, "zorder": 2 + i}
            ax.plot(rows["steps"], rows[column], label=name, **look)
            if column == "value":
                ax.fill_between(rows["steps"], rows["low"], rows["high"], color=look["color"], alpha=0.08, linewidth=0)
        ax.set(xlabel="steps", ylabel=label, yscale="log")
        style.doublings(ax.xaxis, table["steps"])
    stored = only(table, strategy="store")
    ends, last = stored["steps"].iloc[[0, -1]].to_numpy(float), stored["megabytes"].iloc[-1]
    style.power_law(axes[0], ends, 1.8 * last / np.max(ends), 1, label=False)
    style.plain(axes[0].yaxis)
    return figure
