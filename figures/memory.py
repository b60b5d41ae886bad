"""Peak bytes against steps for the four ways to differentiate a solve."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from figures import style

TABLES = ("memory",)
QUESTION = "How does memory grow with the number of steps, and what is paid for saving it?"
Tables = Mapping[str, pd.DataFrame]
LOOKS = {
    "store": {"color": style.BLUE, "marker": "o"},
    "checkpoint": {"color": style.ORANGE, "marker": "s"},
    "recursive": {"color": style.GREEN, "marker": "^"},
    "reversible": {"color": style.PURPLE, "marker": "D"},
}


def _by_way(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    rows = table[table["metric"] == "relative_error"]
    way = rows["options"].map(lambda text: json.loads(text)["memory"])
    return {name: rows[way == name].sort_values("steps") for name in LOOKS}


def answer(tables: Tables) -> str:
    """Give the growth of each way over the last doublings, and its evaluations."""
    parts = []
    for name, rows in _by_way(tables["memory"]).items():
        half, last = rows.iloc[-2], rows.iloc[-1]
        power = np.log2(last["bytes"] / half["bytes"])
        times = last["evaluations"] / (2 * last["steps"])
        parts.append(f"{name} as steps^{power:.2f} at {times:.1f} times the evaluations of the forward solve")
    return (
        f"Bytes grow, over the last doubling of the steps, for {'; '.join(parts)}. The dashed line is proportional to "
        "the steps. Midpoint; recursive checkpointing has four slots; the reversible solver is another map of the same "
        "order."
    )


def draw(tables: Tables) -> Figure:
    """Draw bytes, evaluations and error against steps."""
    style.apply()
    figure, axes = plt.subplots(1, 3, figsize=(style.TEXT_WIDTH, 2.3))
    columns = {"bytes": "peak bytes", "evaluations": "evaluations per sample", "value": "relative error"}
    for ax, (column, label) in zip(axes, columns.items(), strict=True):
        for name, rows in _by_way(tables["memory"]).items():
            ax.plot(rows["steps"], rows[column], label=name, **LOOKS[name])
            if column == "value":
                ax.fill_between(rows["steps"], rows["low"], rows["high"], color=LOOKS[name]["color"], alpha=0.1)
        ax.set(xlabel="steps", ylabel=label, yscale="log")
        ax.set_xscale("log", base=2)
    stored = _by_way(tables["memory"])["store"]
    steps = np.array([stored["steps"].iloc[0], stored["steps"].iloc[-1]], float)
    axes[0].plot(steps, 1.6 * stored["bytes"].iloc[-1] * steps / steps[1], **style.THEORY)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return style.finish(figure, list(axes))
