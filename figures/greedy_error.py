"""Greedy error against zeta."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("greedy_error", "greedy_error_slopes", "greedy_error_facts")
QUESTION = "How wrong is the greedy gradient, and how does its error vanish as ζ = σ/α does?"
answer = style.Caption(
    "Its relative error falls as ζ to the power {slope:.2f} (median of {fits} fits, {slope_low..slope_high:.2f}; "
    "theory: 2).",
    style.choose(
        "paths",
        {
            "agree": "At equal ζ the paths agree to {spread:.0e}: one line stands for all of them.",
            "differ": "At equal ζ the paths differ by up to {spread:.0%}; lines are of {path!n}.",
        },
    ),
    "a, error; b, 1 − cosine; c, slopes of the {points} smallest ζ with 95% intervals of the line fits. Lines are "
    "medians over states, bands quartiles.",
)
SHOWN = {"relative_error": ("relative error", 2, 0.02), "one_minus_cosine": ("1 − cosine", 4, 1e-4)}
"""Labels, and the power and level of a reference line clear of the data."""


@style.figure(legend=5)
def draw(tables: style.Tables) -> Figure:
    """Draw error and 1 - cosine against zeta, and the fitted slopes."""
    figure, axes = style.panels(3, 3, 2.5, width_ratios=[1, 1, 0.75])
    table = tables["greedy_error"]
    for ax, (metric, (label, power, level)) in zip(axes, SHOWN.items(), strict=False):
        for i, (problem, rows) in enumerate(style.groups(only(table, metric=metric), "problem")):
            rows = only(rows, path=rows["path"].iloc[0])
            look = style.series(i) | {"markersize": 2.5}
            style.band(ax, rows, "zeta", label=names.of("problems", problem), **look)
        style.power_law(ax, [1e-4, 1e-2], level, power)
        ax.set(xscale="log", yscale="log", xlabel=r"$\zeta_t$", ylabel=label)
    _slopes(axes[2], tables["greedy_error_slopes"], style.values(table, "problem"))
    return figure


def _slopes(ax: Axes, slopes: pd.DataFrame, problems: list[str]) -> None:
    paths = list(style.groups(only(slopes, status="ok"), "path"))
    for j, (path, rows) in enumerate(paths):
        y = np.array([problems.index(p) for p in rows["problem"]]) + (j - (len(paths) - 1) / 2) * 0.17
        look = style.marked("0.15", "os^Dv"[j % 5], hollow=j > 0) | {"markersize": 2.8, "markeredgewidth": 0.6}
        style.errorbars(ax, y, rows, "slope", along="x", label=names.of("paths", path), **look)
    ax.axvline(2, **style.THEORY)
    low, high = ax.get_xlim()
    ax.set(xlim=(min(low, 1.9), max(high, 2.1)), xlabel=r"fitted slope in $\zeta$")
    style.rows_of_names(ax, [names.of("problems", p) for p in problems])
