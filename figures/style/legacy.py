"""For figures that are not yet converted."""

from __future__ import annotations

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.style import layout, names
from figures.style.layout import apply

BLUE, ORANGE, GREEN, RED, PURPLE, BROWN, PINK, GREY, YELLOW, SKY = sns.color_palette("colorblind", 10).as_hex()
__all__ = ["apply"]


def method_label(estimator: str, solver: str | None = None) -> str:
    """Return the printed name of a method."""
    return names.method(estimator, solver)


def path_label(path: str) -> str:
    """Return the printed name of a path."""
    return names.of("paths", path)


def finish(figure: Figure, axes: list[Axes]) -> Figure:
    """Letter the panels."""
    if len(axes) > 1:
        layout.letter(axes)
    return figure
