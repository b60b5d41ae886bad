"""Marks that figures share: groups of rows, lines with bands, points with intervals, slopes, ticks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from figures.style.layout import LINES, SMALL
from figures.style.looks import THEORY, Look


def groups(table: pd.DataFrame, *columns: str) -> Iterator[tuple[Any, pd.DataFrame]]:
    """Split a table by the values of one column, or by tuples of values of several, in the order of the table.

    A missing value is None.

    Yields
    ------
    tuple
        The value, or tuple of values, and its rows.
    """
    by = columns[0] if len(columns) == 1 else list(columns)
    for key, rows in table.groupby(by, sort=False, dropna=False):
        parts = [None if pd.isna(part) else part for part in (key if isinstance(key, tuple) else (key,))]
        yield (parts[0] if len(columns) == 1 else tuple(parts)), rows


def values(table: pd.DataFrame, column: str) -> list[Any]:
    """Return the values of a column, each once, in the order of the table."""
    return list(table[column].drop_duplicates())


def band(ax: Axes, rows: pd.DataFrame, x: str, y: str = "value", **look: Any) -> None:
    """Draw a line over the column x, with a band between the columns low and high."""
    rows = rows.sort_values(x)
    ax.plot(rows[x], rows[y], **look)
    ax.fill_between(rows[x], rows["low"], rows["high"], color=look["color"], alpha=0.15, linewidth=0)


def errorbars(
    ax: Axes, x: Any, rows: pd.DataFrame | Mapping[str, Any], y: str = "value", along: str = "y", **look: Any
) -> None:
    """Draw points at x with values in the column y and whiskers from low to high.

    Parameters
    ----------
    x : the other coordinate, one for each row
    rows : a table, or one row, with columns y, low and high
    along : "y" for vertical whiskers, or "x": then ``x`` are heights
    """
    middle, low, high = (np.atleast_1d(np.asarray(rows[key], float)) for key in (y, "low", "high"))
    bars = np.maximum([middle - low, high - middle], 0)  # NaN ends draw no whisker
    bars_look: Look = {"linestyle": "none", "elinewidth": 0.7} | look
    if along == "y":
        ax.errorbar(x, middle, yerr=bars, **bars_look)
    else:
        ax.errorbar(middle, x, xerr=bars, **bars_look)


def power_law(ax: Axes, x: Sequence[float] | np.ndarray, level: float, power: float, label: bool = True) -> None:
    """Draw the reference line level * x^power, and write its slope beside its right end."""
    x = np.asarray(x, float)
    y = level * x**power
    ax.plot(x, y, **THEORY)
    if label:
        where: dict[str, Any] = {"textcoords": "offset points", "fontsize": SMALL, "color": "0.25"}
        where["bbox"] = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}  # over other lines
        ax.annotate(f"slope {power:g}", (x[-1], y[-1]), (3, -4), **where)


def ticks(axis: Axis, at: Sequence[float] | np.ndarray, names: Sequence[str] | None = None, **text: Any) -> None:
    """Set the ticks of an axis and their labels; no other ticks remain."""
    names = [f"{v:g}" for v in at] if names is None else list(names)
    axis.set_ticks(list(at), names, **{"linespacing": LINES} | text)
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def doublings(axis: Axis, at: Any, ticks_at_most: int = 7) -> None:
    """Make an axis logarithmic to base 2, with ticks at some powers of two."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})  # type: ignore[attr-defined]
    low, high = (int(np.floor(np.log2(max(v, 1)) + 1e-9)) for v in (np.min(at), np.max(at)))
    step = 1 + (high - low) // (ticks_at_most - 1)
    ticks(axis, [2**k for k in range(low, high + 1, step)])


def plain(axis: Axis) -> None:
    """Label a logarithmic axis of a decade or two with plain numbers: 1, 2, 5, 10."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def decades(axis: Axis, most: int = 3) -> None:
    """Make an axis logarithmic with at most ``most`` ticks, at powers of ten inside its limits."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})  # type: ignore[attr-defined]
    low, high = np.log10(axis.get_view_interval())
    first, last = int(np.ceil(low - 1e-9)), int(np.floor(high + 1e-9))
    powers = range(first, last + 1, max(1, -(-(last - first) // (most - 1))))
    if len(powers) > 1:
        ticks(axis, [10.0**k for k in powers], [f"$10^{{{k}}}$" for k in powers])
    else:
        axis.set_minor_formatter(NullFormatter())


def from_zero(axis: Axis) -> None:
    """Start an axis at zero, with room for the markers at its end however near to each other the values are."""
    top = axis.get_view_interval()[1]
    axis.axes.set(**{f"{axis.axis_name}lim": (0, 1.05 * top)})  # type: ignore[attr-defined]


def rows_of_names(ax: Axes, names: Sequence[str]) -> None:
    """Name the rows 0, 1, ... of a panel, from top to bottom."""
    ticks(ax.yaxis, range(len(names)), names, va="center" if any("\n" in name for name in names) else "center_baseline")
    ax.set_ylim(len(names) - 0.4, -0.6)
