"""Seconds, bytes and round-off of guidance gradients on one device, over batch sizes, memory ways and arithmetics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, NullLocator

from figures import style

LOOKS = {name: style.marked(*look) for name, look in style.CHECKPOINTING.items()}
TABLES = ("gpu_cost",)
QUESTION = "What does a gradient cost on this device, and what does faster arithmetic do to it?"
LABELS = {"greedy": "greedy", "lookahead": "lookahead", "end_to_end": "end-to-end"}
COLOURS = {
    "float32": "black",
    "tf32": style.BROWN,
    "bfloat16": style.SKY,
    "channels_last": style.GREY,
    "compile": style.PINK,
    "all": style.YELLOW,
}
SHOWN = {"channels_last": "channels-last", "compile": "compiled", "all": "all switches"}
SHOWN = {name: SHOWN.get(name, name) for name in COLOURS}
TOGETHER = ("all", "bfloat16")  # what is drawn beside float32: all switches, or the one of them that changes most
Tables = Mapping[str, pd.DataFrame]


def _look(row: Any) -> dict[str, Any]:
    return style.method(row.estimator, row.solver or None)


def _cost(table: pd.DataFrame, estimator: str, arithmetic: str = "float32", memory: str = "store") -> pd.DataFrame:
    """Return the finished rows of one line over batches; the way to save memory is end-to-end's alone."""
    rows = table[(table["kind"] == "cost") & (table["status"] == "ok") & (table["arithmetic"] == arithmetic)]
    rows = rows[rows["estimator"] == estimator]
    rows = rows[rows["memory"] == memory] if estimator == "end_to_end" else rows
    return rows.sort_values("batch")


def _precision(table: pd.DataFrame, estimator: str, arithmetic: str) -> pd.DataFrame:
    rows = table[(table["kind"] == "precision") & (table["status"] == "ok") & (table["arithmetic"] == arithmetic)]
    return rows[(rows["estimator"] == estimator) & ((rows["memory"] == "store") | (estimator != "end_to_end"))]


def _arithmetics(table: pd.DataFrame) -> list[str]:
    return [name for name in COLOURS if len(_cost(table, "end_to_end", name))]


def _common(table: pd.DataFrame) -> int:
    """Return the largest batch that every estimator and arithmetic that is drawn finished."""
    return min(int(_cost(table, e, a)["batch"].max()) for a in _arithmetics(table) for e in LABELS)


def _at(table: pd.DataFrame, estimator: str, arithmetic: str = "float32", memory: str = "store") -> Any:
    rows = _cost(table, estimator, arithmetic, memory)
    return next(rows[rows["batch"] == _common(table)].itertuples(), None)


def _number(n: int, unit: str) -> str:
    return f"{n} {unit}{'' if n == 1 else 's'}"


def answer(tables: Tables) -> str:
    """Name the device, and give seconds, error and bytes at the largest batch that everything finished."""
    table = tables["gpu_cost"]
    rows, batch = table[table["kind"] == "cost"], _common(table)
    threads = f" ({_number(int(rows['threads'].max()), 'thread')})" if "cpu" in rows["device"].iloc[0] else ""
    steps = int(_cost(table, "end_to_end")["steps"].iloc[0])
    times = [f"{label} {1000 * _at(table, name).seconds / batch:.3g} ms" for name, label in LABELS.items()]
    return (
        f"Measured on {rows['device'].iloc[0]}{threads}. A gradient in float32 takes, in a batch of {batch}, "
        f"{', '.join(times)} (end-to-end: {_number(steps, 'midpoint step')}). End-to-end in another arithmetic: "
        f"{_faster(table)}. Bytes of the ways to save memory, over those of storing: {_smaller(table)}. "
        f"{_missing(rows)} Times are medians with their least and largest, after one call that is not counted; errors "
        "are medians and quartiles of the distance from the float64 gradient of the same discrete map, in panel c over "
        f"the time in a batch of {batch}. Dashed grey: bytes in proportion to the batch. Crosses: out of memory."
    )


def _faster(table: pd.DataFrame) -> str:
    base, parts = _at(table, "end_to_end").seconds, []
    for name in _arithmetics(table):
        error = _precision(table, "end_to_end", name)["value"]
        at = f", error {error.iloc[0]:.1e}" if len(error) else ""
        parts.append(f"{SHOWN[name]} {base / _at(table, 'end_to_end', name).seconds:.2g} times as fast{at}")
    return "; ".join(parts)


def _smaller(table: pd.DataFrame) -> str:
    base, parts = _at(table, "end_to_end").bytes, []
    for way in LOOKS:
        row = _at(table, "end_to_end", memory=way)
        if way != "store" and row is not None:
            parts.append(f"{way} {row.bytes / base:.2g}")
    return ", ".join(parts)


def _missing(rows: pd.DataFrame) -> str:
    full = int((rows["status"] == "out of memory").sum())
    other = int((rows["status"] != "ok").sum()) - full
    return f"Of {len(rows)} cells {full} did not fit into memory, and {other} could not run for another reason."


def draw(tables: Tables) -> Figure:
    """Draw seconds and bytes against the batch, and error against seconds."""
    style.apply()
    table = tables["gpu_cost"]
    figure, axes = plt.subplots(1, 3, figsize=(style.TEXT_WIDTH, 2.5))
    _draw_seconds(axes[0], table)
    _draw_bytes(axes[1], table)
    _draw_errors(axes[2], table)
    return style.finish(figure, list(axes))


def _draw_seconds(ax: Axes, table: pd.DataFrame) -> None:
    other = next((name for name in TOGETHER if name in _arithmetics(table)), "float32")
    handles = []
    for name, label in LABELS.items():
        for arithmetic, dash in ((other, ":"), ("float32", "-")):
            rows = _cost(table, name, arithmetic)
            look = {**_look(next(rows.itertuples())), "linestyle": dash}
            per = [rows[column] / rows["batch"] for column in ("seconds_min", "seconds", "seconds_max")]
            ax.errorbar(rows["batch"], per[1], [per[1] - per[0], per[2] - per[1]], elinewidth=0.6, **look)
        handles.append(Line2D([], [], label=label, **look))
    handles += [
        Line2D([], [], color="0.3", label="float32"),
        Line2D([], [], color="0.3", linestyle=":", label=SHOWN[other]),
    ]
    ax.set(ylabel="seconds per gradient", yscale="log")
    _batches(ax, table)
    _legend(ax, handles)


def _draw_bytes(ax: Axes, table: pd.DataFrame) -> None:
    failed = table[(table["kind"] == "cost") & (table["arithmetic"] == "float32") & (table["status"] != "ok")]
    for way, look in LOOKS.items():
        rows = _cost(table, "end_to_end", memory=way)
        ax.plot(rows["batch"], rows["bytes"], label=way, **look)
        full = failed[(failed["memory"] == way) & (failed["status"] == "out of memory")]["batch"]
        ax.plot(full, np.full(len(full), 0.97), "x", color=look["color"], transform=ax.get_xaxis_transform())
    rows = _cost(table, "end_to_end")
    ends = rows["batch"].iloc[[0, -1]].to_numpy(float)
    ax.plot(ends, 1.6 * rows["bytes"].iloc[-1] * ends / ends[1], **style.THEORY)
    ax.set(ylabel="peak bytes, end-to-end", yscale="log")
    _batches(ax, table)
    _legend(ax, ax.get_legend_handles_labels()[0])


def _draw_errors(ax: Axes, table: pd.DataFrame) -> None:
    for arithmetic in _arithmetics(table):
        for name in LABELS:
            cost, error = _at(table, name, arithmetic), next(_precision(table, name, arithmetic).itertuples(), None)
            if cost is None or error is None:
                continue
            look, colour = _look(cost), COLOURS[arithmetic]
            look |= {"color": colour, "markeredgecolor": colour}
            look["markerfacecolor"] = "white" if look["markerfacecolor"] == "white" else colour
            whisker = [[error.value - error.low], [error.high - error.value]]
            ax.errorbar(cost.seconds / cost.batch, error.value, whisker, linestyle="none", elinewidth=0.6, **look)
    handles = [
        Line2D([], [], marker="o", linestyle="none", color=COLOURS[name], label=SHOWN[name])
        for name in _arithmetics(table)
    ]
    ax.set(xlabel="seconds per gradient", ylabel="relative error", xscale="log", yscale="log")
    ax.xaxis.set_minor_formatter(NullFormatter())  # two of its labels do not fit side by side
    _legend(ax, handles)


def _batches(ax: Axes, table: pd.DataFrame) -> None:
    every = sorted(table.loc[table["kind"] == "cost", "batch"].unique())
    shown = every[:: max(1, len(every) // 4)]
    ax.set(xlabel="batch", xscale="log", xlim=(every[0] / 1.3, every[-1] * 1.3))
    ax.set_xticks(shown, [str(n) for n in shown])
    ax.xaxis.set_minor_locator(NullLocator())


def _legend(ax: Axes, handles: list[Any]) -> None:
    ax.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.4, -0.24), ncols=2, columnspacing=0.8, handlelength=1.6
    )
