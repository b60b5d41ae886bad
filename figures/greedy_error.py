"""Greedy error against zeta."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

TABLES = ("greedy_error", "greedy_error_slopes")
QUESTION = "How wrong is the greedy gradient, and how does its error vanish as zeta = sigma/alpha does?"
Tables = Mapping[str, pd.DataFrame]
SHOWN = {"relative_error": "relative error", "one_minus_cosine": "1 − cosine"}
THEORY = ((2, 0.02), (4, 1e-4))  # power, and a level that keeps the line clear of the data


def answer(tables: Tables) -> str:
    """Say what the slopes are."""
    slopes = tables["greedy_error_slopes"]
    kept = slopes[slopes["status"] == "ok"]
    return (
        f"Its relative error falls as zeta to the power {kept['slope'].median():.2f} (median over {len(kept)} problems "
        f"and paths, range {kept['slope'].min():.2f} to {kept['slope'].max():.2f}, fitted on the "
        f"{int(kept['points'].max())} smallest zetas, up to {kept['h_max'].max():.2g}); theory says 2. "
        f"At equal zeta the paths agree to {_path_spread(tables['greedy_error']):.0e}: the error depends on the path "
        "through zeta alone, so one line per problem is drawn. Lines are medians over states, bands quartiles."
    )


def _path_spread(table: pd.DataFrame) -> float:
    """Return the largest relative difference between paths of a problem's median error at equal zeta."""
    errors = table[table["metric"] == "relative_error"]
    groups = errors.assign(rank=errors.groupby(["problem", "path"])["zeta"].rank()).groupby(["problem", "rank"])[
        "value"
    ]
    return float((groups.max() / groups.min() - 1).max())


def draw(tables: Tables) -> Figure:
    """Draw error and 1 - cosine against zeta, and the fitted slopes."""
    style.apply()
    figure, axes = plt.subplots(1, 3, figsize=(style.TEXT_WIDTH, 2.75), width_ratios=[1, 1, 0.75])
    table = tables["greedy_error"]
    problems = list(dict.fromkeys(table["problem"]))
    for ax, (metric, label), (power, level) in zip(axes, SHOWN.items(), THEORY, strict=False):
        for i, problem in enumerate(problems):
            _curve(ax, table[(table["metric"] == metric) & (table["problem"] == problem)], i, problem)
        style.power_law(ax, np.array([1e-4, 1e-2]), level, power)
        ax.set(xscale="log", yscale="log", xlabel=r"$\zeta_t$", ylabel=label)
    _slopes(axes[2], tables["greedy_error_slopes"], problems)
    handles = [pair for ax in (axes[0], axes[2]) for pair in zip(*ax.get_legend_handles_labels(), strict=True)]
    figure.legend(*zip(*handles, strict=True), loc="outside lower center", ncols=5, columnspacing=1.2)
    return style.finish(figure, list(axes))


def _curve(ax: Axes, rows: pd.DataFrame, i: int, problem: str) -> None:
    rows = rows[rows["path"] == rows["path"].iloc[0]].sort_values("zeta")
    look = style.series(i)
    ax.plot(rows["zeta"], rows["value"], label=problem, markersize=2.5, **look)
    ax.fill_between(rows["zeta"], rows["low"], rows["high"], color=look["color"], alpha=0.15, linewidth=0)


def _slopes(ax: Axes, slopes: pd.DataFrame, problems: list[str]) -> None:
    paths = list(dict.fromkeys(slopes["path"]))
    for j, path in enumerate(paths):
        rows = slopes[(slopes["path"] == path) & (slopes["status"] == "ok")]
        y = [problems.index(p) + (j - (len(paths) - 1) / 2) * 0.15 for p in rows["problem"]]
        half = [rows["slope"] - rows["low"], rows["high"] - rows["slope"]]
        look: dict[str, Any] = {"fmt": "_|x+1"[j % 5], "ms": 4, "mew": 0.9, "lw": 0.6, "color": f"{0.15 * j:.2f}"}
        ax.errorbar(rows["slope"], y, xerr=half, label=style.path_label(path), **look)
    ax.axvline(2, **style.THEORY)
    low, high = ax.get_xlim()
    ax.set_xlim(min(low, 1.9), max(high, 2.1))
    ax.set(yticks=range(len(problems)), yticklabels=problems, xlabel=r"fitted slope in $\zeta$")
    ax.set_ylim(len(problems) - 0.4, -0.6)
