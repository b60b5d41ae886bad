"""Times of the bench's contenders as ratios to ours."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

TABLES = ("bench",)
QUESTION = "What does the same gradient cost elsewhere?"
OURS = {"surface": "the whole surface in one pass", "end_to_end": "our end-to-end", "estimators": "greedy"}
TITLES = {"surface": "lookahead surface", "end_to_end": "one end-to-end gradient", "estimators": "our estimators"}
OWN = ("ours", "ours_cells", "floor")
EXACT = 1e-8  # contenders that differ by more compute another gradient
Tables = Mapping[str, pd.DataFrame]


def answer(tables: Tables) -> str:
    """Say how the fastest peer of the same gradient compares at each size, and how far the floor is."""
    table = tables["bench"]
    parts = []
    for workload in ("surface", "end_to_end"):
        rows = table[table["workload"] == workload]
        peers = rows[~rows["contender"].isin(OWN) & (rows["agreement"] < EXACT)]
        for problem, group in peers.groupby("problem", sort=False):
            best = group.loc[group["ratio"].idxmin()]
            floor = rows[(rows["problem"] == problem) & (rows["contender"] == "floor")]["ratio"].median()
            parts.append(
                f"{TITLES[workload]} at {problem}: the fastest peer, {best['contender']}, takes {best['ratio']:.2g} "
                f"times our time and ours takes {1 / floor:.3g} times the floor"
            )
    return (
        "Time over ours, medians of paired repetitions with their least and largest; sizes are B x d x K. "
        + "; ".join(parts)
        + ". The floor is the matrix products alone. Open markers compute another gradient (optimise-then-discretise). "
        f"Threads per contender: {int(table['threads'].max())}; where steps are cut, ours is cut alike."
    )


def draw(tables: Tables) -> Figure:
    """Draw one panel per workload, contenders down, the ratio across, a marker per size."""
    style.apply()
    table = tables["bench"]
    table = table[(table["status"] == "ok") & (table["contender"] != "ours")]
    workloads = [name for name in TITLES if (table["workload"] == name).any()]
    lines = [table.loc[table["workload"] == name, "contender"].nunique() for name in workloads]
    size = (style.TEXT_WIDTH, 0.17 * sum(lines) + 0.55 * len(workloads) + 0.3)
    figure, axes = plt.subplots(len(workloads), 1, figsize=size, squeeze=False, height_ratios=lines)
    problems = list(dict.fromkeys(table["problem"]))
    for ax, workload in zip(axes[:, 0], workloads, strict=True):
        _panel(ax, table[table["workload"] == workload], problems)
        ax.set_title(TITLES[workload])
        ax.set_xlabel(f"time / {OURS[workload]}")
    axes[0, 0].legend(*_legend(axes[0, 0]), loc="best", title="B x d x K")
    return style.finish(figure, list(axes[:, 0]))


def _legend(ax: Axes) -> tuple[list, list]:
    named = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    return list(named.values()), list(named)


def _panel(ax: Axes, rows: pd.DataFrame, problems: list[str]) -> None:
    names = list(dict.fromkeys(rows["contender"]))
    for i, problem in enumerate(problems):
        look = style.series(i)
        shift = 0.22 * (i - (len(problems) - 1) / 2)
        for row in rows[rows["problem"] == problem].itertuples():
            other = row.agreement > EXACT
            face = "white" if other else look["color"]
            whisker = np.array([[row.ratio - row.ratio_min], [row.ratio_max - row.ratio]])
            style_of = {"color": look["color"], "marker": look["marker"], "markerfacecolor": face}
            y = names.index(row.contender) + shift
            ax.errorbar(row.ratio, y, xerr=whisker, elinewidth=0.7, linestyle="none", **style_of)
        ax.plot([], [], linestyle="none", color=look["color"], marker=look["marker"], label=problem)
    ax.axvline(1, **style.THEORY)
    ax.set_xscale("log")
    ax.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(axis="y", linewidth=0.3, color="0.9")
    if "floor" in names:
        at = names.index("floor")
        ax.axhspan(at - 0.5, at + 0.5, color="0.94", zorder=0)
