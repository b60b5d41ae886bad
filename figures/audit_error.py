"""Greedy's error on an audited flow against time, with its leading-term estimate."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style

TABLES = ("audit", "audit_facts")
QUESTION = "How wrong is the greedy gradient on this flow, and would one have known?"
answer = style.Caption(
    style.choose(
        "at",
        {
            "one": "On {subject!s} its relative error is {first:.2g} at t = {first_t:g}.",
            "several": "On {subject!s} its relative error is {first:.2g} at t = {first_t:g} and {last:.2g} at t = "
            "{last_t:g}.",
        },
    ),
    style.choose(
        "estimate",
        {
            "close": "The leading-term estimate, which needs no reference, is within {close:.0%} of it from t = "
            "{close_t:g} on.",
            "apart": "The leading-term estimate, which needs no reference, is not within {close:.0%} of it at the last "
            "time.",
            "none": "The leading-term estimate cannot be computed.",
        },
    ),
    "Medians and quartiles over {states!p:state}; the estimate is relative to greedy's own length, the error to the "
    "ideal gradient's. a, error, with the wanted one; b, cosine with the ideal gradient.",
)
MOST_TICKS = 5


@style.figure(legend=3)
def draw(tables: style.Tables) -> Figure:
    """Draw the error and its estimate, and the cosine, against t."""
    table, look = tables["audit"].sort_values("t"), style.method("greedy")
    figure, axes = style.panels(2, 2, 2.1)
    error = only(table, metric="relative_error")
    style.band(axes[0], error, "t", label="greedy, measured", **look)
    estimate = only(table, metric="leading_term").dropna(subset="value")
    if len(estimate):
        dashed = style.THEORY | {"color": look["color"], "zorder": 3}
        axes[0].plot(estimate["t"], estimate["value"], label="leading-term estimate", **dashed)
    axes[0].axhline(table["wanted"].iloc[0], label="wanted error", **style.BOUND)
    turned = only(table, metric="one_minus_cosine")
    turned = turned.assign(value=1 - turned["value"], low=1 - turned["high"], high=1 - turned["low"])
    style.band(axes[1], turned, "t", **look)
    axes[1].axhline(1, **style.THEORY)
    axes[0].set(yscale="log", ylabel="relative error")
    axes[1].set(ylabel="cosine with the ideal")
    for ax in axes:
        _times(ax, error)
    return figure


def _times(ax: Axes, rows: pd.DataFrame) -> None:
    """Label at most ``MOST_TICKS`` times, with their zeta beneath."""
    shown = rows.iloc[:: -(-len(rows) // MOST_TICKS)]
    style.ticks(ax.xaxis, shown["t"], [f"{r.t:.2g}\n{r.zeta:.2g}" for r in shown.itertuples()])
    ax.set_xlabel(r"$t$ (beneath: $\zeta_t$)")
