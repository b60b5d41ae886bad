"""Seconds, bytes and round-off of guidance gradients on one device, by batch, checkpointing and arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("gpu_cost", "gpu_cost_facts")
QUESTION = "What does a gradient cost on this device, and what does faster arithmetic do to it?"
answer = style.Caption(
    "On {device!s} a float32 gradient takes {greedy_ms:.3g} ms greedy and {end_to_end_ms:.3g} ms end-to-end.",
    "That is one image of {batch}, with {steps!p:midpoint step}.",
    "One of {molecule_batch} molecules takes {molecule_ms:.3g} ms end-to-end.",
    "The fastest arithmetic, {fast!n}, is {fast_ratio:.2g} times as fast, at an error of {fast_error:.1e}.",
    "{full!p:cell} of {cells} did not fit (crosses).",
    "a: medians, least to largest. b: end-to-end; dashes: in proportion to the batch. c: errors against float64, with "
    "quartiles.",
)
IMAGES = "mnist_unet"
ESTIMATORS = ("greedy", "lookahead", "end_to_end")
SHOWN = {"channels_last": "channels-last", "compile": "compiled", "all": "all switches"}
TOGETHER = ("all", "bfloat16")  # what is drawn beside float32: all switches, or the one of them that changes most


@style.figure()
def draw(tables: style.Tables) -> Figure:
    """Draw seconds and bytes against the batch, and error against seconds at the largest batch that all finished."""
    table, facts = only(tables["gpu_cost"], problem=IMAGES), tables["gpu_cost_facts"].iloc[0]
    done = only(table, status="ok")
    plain = done[(done["estimator"] != "end_to_end") | (done["memory"] == "store")]
    cost, precision = only(plain, kind="cost"), only(plain, kind="precision")
    stored = only(table, kind="cost", arithmetic="float32", estimator="end_to_end")
    drawings: list[tuple[Any, tuple[pd.DataFrame, ...]]]
    drawings = [(_seconds, (cost,)), (_bytes, (stored,)), (_errors, (only(cost, batch=facts["batch"]), precision))]
    drawings = [(draw_panel, parts) for draw_panel, parts in drawings if all(len(part) for part in parts)]
    figure, axes = style.panels(len(drawings), 3, 2.5, 0.0)
    for ax, (draw_panel, parts) in zip(axes, drawings, strict=True):
        draw_panel(ax, *parts)
    return figure


def _arithmetics(cost: pd.DataFrame) -> list[str]:
    return [name for name in style.ARITHMETIC if name in set(only(cost, estimator="end_to_end")["arithmetic"])]


def _seconds(ax: Axes, cost: pd.DataFrame) -> None:
    other = next((name for name in TOGETHER if name in _arithmetics(cost)), None)
    dashes: dict[str, Any] = {"float32": "-"} | ({other: ":"} if other else {})
    handles = []
    for estimator in ESTIMATORS:
        for arithmetic, dash in dashes.items():
            rows = only(cost, estimator=estimator, arithmetic=arithmetic).sort_values("batch")
            if rows.empty:
                continue
            per = {"low": "seconds_min", "seconds": "seconds", "high": "seconds_max"}
            rows = rows.assign(**{name: rows[column] / rows["batch"] for name, column in per.items()})
            look = style.method(estimator, rows["solver"].iloc[0]) | {"linestyle": dash}
            style.errorbars(ax, rows["batch"], rows, "seconds", **look)
        handles.append(Line2D([], [], label=names.method(estimator), **look | {"linestyle": "-"}))
    handles += [Line2D([], [], color="0.3", linestyle=d, label=SHOWN.get(n, n)) for n, d in dashes.items()]
    ax.set(ylabel="seconds per image")
    style.decades(ax.yaxis)
    _batches(ax, cost)
    _legend(ax, handles)


def _bytes(ax: Axes, table: pd.DataFrame) -> None:
    for strategy, mark in style.CHECKPOINTING.items():
        own, look = only(table, memory=strategy), style.marked(*mark)
        rows = only(own, status="ok").sort_values("batch")
        ax.plot(rows["batch"], rows["bytes"] / 1e6, label=strategy, **look)
        full = only(own, status="out of memory")["batch"]
        ax.plot(full, np.full(len(full), 0.97), "x", color=look["color"], transform=ax.get_xaxis_transform())
        if strategy == "store" and len(rows):
            ends, last = rows["batch"].iloc[[0, -1]].to_numpy(float), rows["bytes"].iloc[-1] / 1e6
            style.power_law(ax, ends, 1.6 * last / ends[1], 1, label=False)
    ax.set(ylabel="peak memory (MB)")
    style.decades(ax.yaxis)
    _batches(ax, table)
    _legend(ax, ax.get_legend_handles_labels()[0])


def _errors(ax: Axes, cost: pd.DataFrame, precision: pd.DataFrame) -> None:
    keys = ["estimator", "arithmetic"]
    both = precision.merge(cost[[*keys, "seconds", "batch"]], on=keys, suffixes=("_", ""))
    for row in both.to_dict("records"):
        colour = style.ARITHMETIC[row["arithmetic"]][0]
        shape = style.method(row["estimator"], row["solver"])
        look = style.marked(colour, shape["marker"], hollow=row["estimator"] == "lookahead")
        style.errorbars(ax, [row["seconds"] / row["batch"]], row, **look)
    shown = _arithmetics(cost)
    handles = [
        Line2D([], [], marker="o", linestyle="none", color=style.ARITHMETIC[n][0], label=SHOWN.get(n, n)) for n in shown
    ]
    ax.set(xlabel="seconds per image", ylabel="relative error", yscale="log")
    style.decades(ax.xaxis)
    _legend(ax, handles)


def _batches(ax: Axes, table: pd.DataFrame) -> None:
    every = sorted(table["batch"].unique())
    ax.set(xlabel="batch", xscale="log", xlim=(every[0] / 1.3, every[-1] * 1.3))
    style.ticks(ax.xaxis, every[:: max(1, len(every) // 4)])


def _legend(ax: Axes, handles: list[Any]) -> None:
    place: style.Look = {"loc": "upper center", "bbox_to_anchor": (0.4, -0.24), "ncols": 2, "handlelength": 1.6}
    ax.legend(handles=handles, **place, columnspacing=0.8)
