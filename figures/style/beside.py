"""Methods side by side at each of several places along x, such as operators, properties or settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures.style import names
from figures.style.layout import panels
from figures.style.looks import THEORY, sampler
from figures.style.marks import errorbars, from_zero, ticks, values


def side_by_side(
    ax: Axes,
    table: pd.DataFrame,
    column: str,
    places: Mapping[str, str],
    methods: Sequence[str],
    reach: float = 0.35,
    **look: Any,
) -> list[tuple[str, pd.DataFrame, pd.Series]]:
    """Draw points with whiskers in the columns mean, low and high, every second place on grey.

    Parameters
    ----------
    column : holds the place of a row
    places : the places from left to right, with what is written below each
    methods : values of the column "estimator" from left to right; those without rows leave their room empty
    reach : of the methods to either side of their place
    **look : of the points, beside that of the method

    Returns
    -------
    list
        The methods that are drawn, with their rows and positions.
    """
    for i in range(0, len(places), 2):
        ax.axvspan(i - 0.5, i + 0.5, color="0.95", linewidth=0, zorder=-1)
    drawn = []
    for offset, name in zip(np.linspace(-reach, reach, max(len(methods), 2)), methods, strict=False):
        rows = only(table, estimator=name).dropna(subset="mean")
        if len(rows):
            x = rows[column].map([*places].index) + offset
            errorbars(ax, x, rows, "mean", label=names.sampler(name), **sampler(name) | {"linestyle": "none"} | look)
            drawn.append((name, rows, x))
    ticks(ax.xaxis, range(len(places)), [*places.values()])
    ax.set_xlim(-0.5, len(places) - 0.5)
    ax.tick_params(axis="x", length=0)
    return drawn


def by_judge(table: pd.DataFrame, column: str, places: Mapping[str, str]) -> Figure:
    """Draw errors of molecules over the data's spread, a panel per judge (the column "metric")."""
    judges = [name for name in names.JUDGES if name in set(table["metric"])]
    shown = {place: label for place, label in places.items() if place in set(table[column])}
    figure, axes = panels(len(judges), 1, 1.5, 0.7, sharex=True)
    for ax, name in zip(axes, judges, strict=True):
        rows = only(table, metric=name)
        ax.axhline(1, **THEORY)
        side_by_side(ax, rows, column, shown, values(rows, "estimator"))
        from_zero(ax.yaxis)
        ax.set(title=names.JUDGES[name], ylabel="error\n/ spread")
    return figure
