"""The shell of a figure: sizes of the NeurIPS page, embedded fonts, panels, their letters, and one shared legend."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure, SubFigure
from matplotlib.text import Text

from figures.style.log_labels import label_logarithmic
from figures.style.looks import PALETTE, Look

Tables = Mapping[str, pd.DataFrame]
Draw = Callable[[Tables], Figure]
TEXT_WIDTH, PAGE_HEIGHT = 5.5, 9.0  # inches: a NeurIPS column is the text width
SMALL, NORMAL = 8, 9  # points
LINES = 1.0  # between the lines of one label, which are to be nearer to each other than to the next label
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def apply() -> None:
    """Set matplotlib's parameters, whatever a matplotlibrc says."""
    mpl.rcdefaults()
    sns.set_theme(context="paper", style="ticks", palette=PALETTE)
    mpl.rcParams.update(
        {
            "pdf.fonttype": 42,
            "ps.fonttype": 42,
            "font.family": ["STIXGeneral", "DejaVu Serif"],  # the second one for signs that the first lacks
            "mathtext.fontset": "stix",
            "font.size": NORMAL,
            "axes.titlesize": NORMAL,
            "axes.labelsize": NORMAL,
            "xtick.labelsize": SMALL,
            "ytick.labelsize": SMALL,
            "legend.fontsize": SMALL,
            "legend.title_fontsize": SMALL,
            "legend.frameon": False,
            "legend.columnspacing": 1.2,
            "legend.handletextpad": 0.5,
            "lines.linewidth": 1.1,
            "lines.markersize": 3.5,
            "axes.linewidth": 0.6,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "xtick.major.width": 0.6,
            "ytick.major.width": 0.6,
            "xtick.minor.width": 0.4,
            "ytick.minor.width": 0.4,
            "savefig.dpi": 300,
            "figure.dpi": 150,
            "figure.constrained_layout.use": True,
        }
    )


def figure(legend: int | None = None, letters: bool = True) -> Callable[[Draw], Draw]:
    """Decorate a function from tables to a figure: apply the style, letter panels, label axes, add a legend.

    Parameters
    ----------
    legend : number of columns of the legend below all panels, which shows the labels of every panel without a legend of
        its own; None for no shared legend
    letters : whether to letter the panels where there are several

    Returns
    -------
    Callable
        The decorator.
    """

    def wrap(draw: Draw) -> Draw:
        @functools.wraps(draw)
        def styled(tables: Tables) -> Figure:
            apply()
            made = draw(tables)
            for text in made.findobj(Text):
                if "\n" in text.get_text():
                    text.set_linespacing(LINES)
            panels = [ax for ax in made.axes if ax.axison and ax.get_label() != "<colorbar>"]
            if letters and len(panels) > 1:
                letter(panels)
            label_logarithmic(made)
            if legend:
                shared_legend(made, legend)
            return made

        return styled

    return wrap


def panels(count: int, columns: int, height: float, more: float = 0.4, **options: Any) -> tuple[Figure, list[Axes]]:
    """Make a figure as wide as the text with ``count`` panels in rows of at most ``columns``.

    Parameters
    ----------
    count, columns : number of panels, and the most in a row
    height : of a row, in inches
    more : inches added to the height, for the legend and other parts outside the panels
    **options : of ``matplotlib.pyplot.subplots``

    Returns
    -------
    tuple
        The figure and its ``count`` axes, row by row.

    Raises
    ------
    ValueError
        If ``count`` is below 1: the tables hold nothing to draw.
    """
    if count < 1:
        raise ValueError("the tables of this figure hold nothing to draw")
    columns = min(columns, count)
    rows = -(-count // columns)
    made, grid = plt.subplots(rows, columns, figsize=(TEXT_WIDTH, height * rows + more), squeeze=False, **options)
    flat = list(grid.ravel())
    for ax in flat[count:]:
        ax.remove()
    return made, flat[:count]


def letter(axes: list[Axes], first: int = 0) -> None:
    """Letter the panels, starting with letter number ``first``."""
    for sign, ax in zip(LETTERS[first:], axes, strict=False):
        where: Look = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "left"}
        ax.annotate(sign, (0, 1), (-18, 5), fontweight="bold", **where)


def labelled(*axes: Axes) -> dict[str, Any]:
    """Return the handles of all labelled lines in the panels, by label; error bars are shown by their markers."""
    handles: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            line = handle.lines[0] if isinstance(handle, ErrorbarContainer) else handle
            handles.setdefault(label, line)
    return handles


def shared_legend(figure: Figure | SubFigure, columns: int, **options: Any) -> None:
    """Draw one legend below a figure, with the labels of all panels that have no legend of their own."""
    handles = labelled(*(ax for ax in figure.axes if ax.get_legend() is None))
    if handles:
        place: Look = {"loc": "outside lower center", "ncols": min(columns, len(handles))} | options
        figure.legend(list(handles.values()), list(handles), **place)
