"""What tells the entries of a figure's legends apart where the print is grey: markers, fills, dashes, hatches."""

from __future__ import annotations

import itertools
from typing import Any

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import style

NO = ("None", "none", "", " ", None)
GREYS_APART = 0.1  # of the way from black to white


def entries(figure: Figure) -> list[tuple[str, Any]]:
    """Return the texts and handles of all legends, each text once."""
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    pairs = (zip(legend.get_texts(), legend.legend_handles, strict=True) for legend in legends)
    return list({text.get_text(): (text.get_text(), handle) for some in pairs for text, handle in some}.values())


def alike(figure: Figure) -> list[tuple[str, str]]:
    """Return the pairs of entries that look the same in grey."""
    return [(a, b) for (a, one), (b, other) in itertools.combinations(entries(figure), 2) if _same(one, other)]


def same_looks(one: style.Look, other: style.Look) -> bool:
    """Return whether two looks are the same in grey."""
    return _same(Line2D([], [], **one), Line2D([], [], **other))


def _same(one: Any, other: Any) -> bool:
    (kind, shade), (other_kind, other_shade) = _shape(one), _shape(other)
    return kind == other_kind and abs(shade - other_shade) < GREYS_APART


def _shape(handle: Any) -> tuple[tuple[Any, ...], float]:
    """Return what has a shape, and the grey of the marker or, where there is none, of the line or patch."""
    if not isinstance(handle, Line2D):
        return ("patch", handle.get_hatch()), _grey(handle.get_facecolor())
    marker = None if handle.get_marker() in NO else str(handle.get_marker())
    dashes = None if handle.get_linestyle() in NO else str(handle._unscaled_dash_pattern[1])
    face = handle.get_markerfacecolor()
    face = "white" if face in NO else face
    return ("line", marker, handle.get_fillstyle(), dashes), _grey(face if marker else handle.get_color())


def _grey(colour: Any) -> float:
    red, green, blue = to_rgb(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
