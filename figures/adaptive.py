"""Lookahead that chooses its own steps: its choices, its errors against the tolerance, and its cost."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style

TABLES = tuple(f"adaptive{part}" for part in ("_choices", "_families", "_summary", "_facts"))
QUESTION = "Does lookahead that chooses its own number of steps keep its tolerance, and does it save evaluations?"
answer = style.Caption(
    "It is within the tolerance in {within_low..within_high:.1%} of the states, at tolerances "
    "{tightest:g} to {loosest:g}.",
    "{reach} of {count} combinations of problem, path and tolerance reach {share:.0%}.",
    "It costs {ratio_low..ratio_high:.2f} times as much as the cheapest fixed number of steps in t, chosen with "
    "hindsight.",
    "a, steps chosen at tolerance {shown:g}; b, 95th percentile of the error by family of problems, dashes the "
    "tolerance; c, share within it; d, evaluations and products, all pooled. The rule was set on other problems.",
)
LOOKS = {
    "adaptive": style.method("adaptive") | {"markersize": 5},
    "fixed, in t": style.method("end_to_end", "midpoint"),
    "fixed, in cosine time": style.method("lookahead", "midpoint") | {"linestyle": (0, (4, 1.5))},
}


@style.figure(legend=5)
def draw(tables: style.Tables) -> Figure:
    """Draw choices over time, error and share against the tolerance, and cost against the tolerance."""
    figure, places = plt.subplot_mosaic("aaa;bcd", figsize=(style.TEXT_WIDTH, 4.2))
    _choices(places["a"], tables["adaptive_choices"])
    _families(places["b"], places["c"], tables["adaptive_families"])
    _costs(places["d"], only(tables["adaptive_summary"], problem="all", status="ok"))
    return figure


def _choices(ax: Axes, table: pd.DataFrame) -> None:
    bands, times = list(style.groups(table, "band")), sorted(table["t"].unique())
    below, width = np.zeros(len(times)), np.diff(times).min() if len(times) > 1 else 1.0
    for colour, (name, rows) in zip(sns.color_palette("viridis", len(bands)), bands, strict=True):
        share = rows.set_index("t")["share"].reindex(times, fill_value=0).to_numpy()
        ax.bar(times, share, bottom=below, label=name, width=0.92 * width, color=colour, linewidth=0)
        below = below + share
    ax.set(xlabel="time $t$ of the state", ylabel="share of states", ylim=(0, 1), xlim=(0, 1))
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(handles[::-1], labels[::-1], title="steps", loc="center left", bbox_to_anchor=(1.0, 0.5))


def _families(percentiles: Axes, shares: Axes, table: pd.DataFrame) -> None:
    for i, (family, rows) in enumerate(style.groups(table, "family")):
        rows = rows.sort_values("tolerance")
        percentiles.plot(rows["tolerance"], rows["error_95"], label=family, **style.series(i))
        shares.plot(rows["tolerance"], rows["within"], **style.series(i))
    tolerances = np.sort(table["tolerance"].unique())
    percentiles.plot(tolerances, tolerances, **style.THEORY)
    shares.axhline(0.95, **style.THEORY)
    percentiles.set(xscale="log", yscale="log", ylabel="95th percentile of the error")
    shares.set(xscale="log", ylabel="share within tolerance", ylim=(min(0.84, table["within"].min() - 0.02), 1.01))
    for ax in (percentiles, shares):
        _tolerances(ax, tolerances)


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
