"""Lookahead that turns its own dial: what it chooses, whether it keeps its tolerance, and what that costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from figures import style

TABLES = ("adaptive", "adaptive_summary")
QUESTION = "Does lookahead that chooses its own number of steps keep its tolerance, and does it save evaluations?"
Tables = Mapping[str, pd.DataFrame]
SHOWN = 0.1  # the tolerance of the first panel
SHARE = 0.95
BANDS = ((0, "0 (greedy)"), (3, "2–3"), (5, "4–5"), (8, "6–8"), (12, "9–12"), (24, "14–24"), (np.inf, "> 24"))
KINDS = {"adaptive": "adaptive", "fixed, in t": "fixed, in $t$", "fixed, in cosine time": "fixed, in cosine time"}
LOOKS = {
    "adaptive": style.method("adaptive") | {"markersize": 5},
    "fixed, in t": style.method("end_to_end", "midpoint"),
    "fixed, in cosine time": style.method("lookahead", "midpoint") | {"linestyle": (0, (4, 1.5))},
}


def _family(rows: pd.DataFrame) -> pd.Series:
    """Return the family of each row's problem, which is named "family_seed"."""
    return rows["problem"].str.rsplit("_", n=1).str[0]


def _pooled(tables: Tables, kind: str) -> pd.DataFrame:
    table = tables["adaptive_summary"]
    return table[(table["problem"] == "all") & (table["estimator"] == kind)].sort_values("tolerance", ascending=False)


def _work(rows: pd.DataFrame) -> pd.Series:
    return rows["evaluations"] + rows["vjps"]


def _listed(values: pd.Series, shown: str) -> str:
    return ", ".join("none" if pd.isna(v) else format(v, shown) for v in values)


def answer(tables: Tables) -> str:
    """Give the pooled shares and costs, and say where a single problem and path falls short."""
    own = _pooled(tables, "adaptive")
    table = tables["adaptive_summary"]
    single = table[(table["estimator"] == "adaptive") & (table["problem"] != "all")]
    short = single[single["within"] < SHARE].groupby(_family(single))["within"].agg(["size", "min"])
    listed = ", ".join(f"{r.Index} {r.size} (least {r.min:.0%})" for r in short.itertuples(name="R"))
    costs = "; ".join(
        f"{name.replace('$', '')}: {_listed(_work(_pooled(tables, k)), '.0f')}" for k, name in KINDS.items()
    )
    return (
        f"At tolerances {_listed(own['tolerance'], 'g')} it is within them in {_listed(own['within'], '.1%')} of the "
        f"states, all problems and paths pooled. Evaluations and products per state: {costs}, where fixed is the "
        f"cheapest number of steps, chosen with hindsight, that is within the tolerance in {SHARE:.0%} of the states. "
        f"Of {len(single)} combinations of problem, path and tolerance {int((single['within'] >= SHARE).sum())} reach "
        f"{SHARE:.0%}{'; those that do not, by family: ' * bool(listed)}{listed}. a: steps chosen at "
        f"tolerance {SHOWN:g}; b: the 95th percentile of the true error, one line per family (its problems and paths "
        "pooled) with the identity; c: the share within the tolerance; d: cost. The rule was set on other problems."
    )


def draw(tables: Tables) -> Figure:
    """Draw choices over time, error and share against the tolerance, and cost against the tolerance."""
    style.apply()
    figure, axes = plt.subplots(2, 2, figsize=(style.TEXT_WIDTH, 4.5))
    flat = list(np.ravel(axes))
    _choices(flat[0], tables["adaptive"])
    _errors(flat[1], flat[2], tables["adaptive"])
    _costs(flat[3], tables)
    handles, labels = flat[1].get_legend_handles_labels()
    figure.legend(handles, labels, title="families of b and c", loc="outside lower center", ncols=6)
    return style.finish(figure, flat)


def _choices(ax: Axes, table: pd.DataFrame) -> None:
    rows = table[(table["estimator"] == "adaptive") & (table["tolerance"] == SHOWN)]
    times = np.sort(rows["t"].unique())
    edges, below = [b for b, _ in BANDS], np.zeros(len(times))
    colours = sns.color_palette("viridis", len(BANDS))
    width = np.diff(times).min() if len(times) > 1 else 1.0
    for i, (edge, name) in enumerate(BANDS):
        low = edges[i - 1] if i else -1
        share = rows.assign(hit=rows["steps"].between(low, edge, inclusive="right")).groupby("t")["hit"].mean()
        bars = {"width": 0.92 * width, "color": colours[i], "linewidth": 0}
        ax.bar(times, share.to_numpy(), bottom=below, label=name, **bars)
        below = below + share.to_numpy()
    ax.set(xlabel="time $t$ of the state", ylabel="share of states", ylim=(0, 1), xlim=(0, 1))
    handles, labels = ax.get_legend_handles_labels()
    place: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "labelspacing": 0.3}
    ax.legend(handles[::-1], labels[::-1], title="steps", handlelength=0.9, **place)


def _errors(percentiles: Axes, shares: Axes, table: pd.DataFrame) -> None:
    """Draw the 95th percentile of the error and the share within the tolerance, one line per family."""
    rows = table[table["estimator"] == "adaptive"]
    tolerances = np.sort(rows["tolerance"].unique())
    for i, (family, group) in enumerate(rows.groupby(_family(rows), sort=False)):
        by = group.groupby("tolerance")
        high = by["error"].apply(lambda e: np.quantile(e.fillna(np.inf), SHARE, method="higher"))
        percentiles.plot(high.index, high, label=str(family), **style.series(i))
        shares.plot(high.index, by["within"].mean(), **style.series(i))
    percentiles.plot(tolerances, tolerances, **style.THEORY)
    shares.axhline(SHARE, **style.THEORY)
    percentiles.set(xscale="log", yscale="log", ylabel="95th percentile of the error")
    shares.set(xscale="log", ylabel="share within the tolerance", ylim=(min(0.84, shares.get_ylim()[0]), 1.01))
    for ax in (percentiles, shares):
        _tolerance_axis(ax, tolerances)


def _costs(ax: Axes, tables: Tables) -> None:
    for kind, name in KINDS.items():
        rows = _pooled(tables, kind)
        ax.plot(rows["tolerance"], _work(rows), label=name, **LOOKS[kind])
    ax.set(xscale="log", yscale="log", ylabel="evaluations + products")
    ax.set_yticks([10, 30, 100, 300], ["10", "30", "100", "300"])
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_ylim(top=4000)
    _tolerance_axis(ax, np.sort(tables["adaptive"]["tolerance"].unique()))
    ax.legend(loc="upper right")


def _tolerance_axis(ax: Axes, tolerances: np.ndarray) -> None:
    ax.set_xlabel("tolerance")
    ax.set_xticks(tolerances, [f"{t:g}" for t in tolerances])
    ax.minorticks_off()
