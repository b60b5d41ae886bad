"""Greedy's error on an audited flow against time, with what the leading term says of it."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

TABLES = ("audit",)
QUESTION = "How wrong is the greedy gradient on this flow, and would one have known?"
MOST_TICKS = 6
Tables = Mapping[str, pd.DataFrame]


def answer(tables: Tables) -> str:
    """Say how large the error is at both ends, and how far the estimate is from it."""
    subject = tables["audit"]["problem"].iloc[0]
    found = tables["audit"].pivot(index="t", columns="metric", values="value").sort_index()
    first, last = found.iloc[0], found.iloc[-1]
    estimate = (
        f"the leading-term estimate says {first['leading_term']:.2g} and {last['leading_term']:.2g}"
        if found["leading_term"].notna().all()
        else "the leading-term estimate cannot be computed"
    )
    return (
        f"{subject}: relative error {first['relative_error']:.2g} at t = {found.index[0]:g}, "
        f"{last['relative_error']:.2g} at t = {found.index[-1]:g}; {estimate}. Lines are medians over states, bands "
        "quartiles; the estimate is relative to greedy's own length, the error to the ideal gradient's."
    )


def draw(tables: Tables) -> Figure:
    """Draw the error and its estimate, and the cosine, against t."""
    style.apply()
    table = tables["audit"].sort_values("t")
    figure, axes = plt.subplots(1, 2, figsize=(style.TEXT_WIDTH, 2.4))
    look = style.method("greedy")
    _curve(axes[0], _rows(table, "relative_error"), "greedy, measured", look | {"markersize": 5})
    estimate = _rows(table, "leading_term").dropna(subset="value")
    axes[0].plot(estimate["t"], estimate["value"], label="leading-term estimate", **style.THEORY | {"zorder": 3})
    axes[0].axhline(table["wanted"].iloc[0], color=style.BLUE, linewidth=0.8, label="wanted error")
    axes[0].set(yscale="log", ylabel="relative error")
    turned = _rows(table, "one_minus_cosine")
    turned = turned.assign(value=1 - turned["value"], low=1 - turned["high"], high=1 - turned["low"])
    _curve(axes[1], turned, "greedy, measured", look | {"markersize": 5})
    axes[1].axhline(1, **style.THEORY)
    axes[1].set(ylabel="cosine with the ideal")
    for ax in axes:
        _time_axis(ax, turned)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return style.finish(figure, list(axes))


def _rows(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    return table[table["metric"] == metric]


def _curve(ax: Axes, rows: pd.DataFrame, label: str, look: dict) -> None:
    ax.plot(rows["t"], rows["value"], label=label, **look)
    ax.fill_between(rows["t"], rows["low"], rows["high"], color=look["color"], alpha=0.15, linewidth=0)


def _time_axis(ax: Axes, rows: pd.DataFrame) -> None:
    """Label times with their zeta beneath, as many as there is room for."""
    kept = rows.iloc[:: -(-len(rows) // MOST_TICKS)]
    ax.set_xticks(kept["t"], [f"{t:.2g}\n{zeta:.2g}" for t, zeta in zip(kept["t"], kept["zeta"], strict=True)])
    ax.set_xlabel(r"$t$ (beneath: $\zeta_t$)")
