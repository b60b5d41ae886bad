"""Errors as colours over horizons and steps: the parts of such panels, and a plot of a user's own surface."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from figures.style.layout import figure as styled
from figures.style.layout import panels
from figures.style.looks import marked
from figures.style.marks import ticks

MOST = 6  # ticks of horizons


def mesh(ax: Axes, value: Any, steps: Any, horizons: Any, best: Any, norm: LogNorm) -> None:
    """Draw errors (steps, horizons) as colours over horizon and log2 of steps, with a dot at each step count's best."""
    heights = np.log2(np.asarray(steps, dtype=float))
    ax.pcolormesh(_edges(horizons), _edges(heights), value, norm=norm, cmap="viridis", rasterized=True)
    look = marked("black", "o", hollow=True) | {"markersize": 4, "linestyle": "none", "clip_on": False}
    ax.plot(best, heights, zorder=4, **look)


def _edges(centres: Any) -> np.ndarray:
    """Return the edges of cells, half-way between their centres; a single one is a tenth wide."""
    centres = np.asarray(centres, dtype=float)
    halves = np.diff(centres) / 2 if len(centres) > 1 else np.array([0.05])
    return np.concatenate(
        [centres[:1] - halves[0], centres[:-1] + halves[: len(centres) - 1], centres[-1:] + halves[-1]]
    )


def colour_bar(drawing: Figure, ax: Axes, norm: LogNorm) -> None:
    """Draw the colours' scale beside a panel."""
    bar = drawing.colorbar(ScalarMappable(norm, "viridis"), ax=ax, label="relative error", pad=0.02)
    bar.outline.set_visible(False)


def plot_surface(surface: Any, truth: Any) -> Figure:
    """Draw the median relative error of a lookahead surface over horizons and step counts.

    Dots mark the best horizon of each step count.

    Parameters
    ----------
    surface : what ``analysis.gradients.lookahead_surface`` returns
    truth : true gradients (B, *event), or what ``analysis.reference.ideal_gradient`` returns

    Returns
    -------
    Figure
        With one panel and its colour bar.

    Raises
    ------
    TypeError
        For a surface of another kind.
    ValueError
        Where no error is positive and finite, so that there is nothing to draw.
    """
    if not hasattr(surface, "relative_error"):
        raise TypeError(f"surface must be what lookahead_surface returns, got {type(surface).__name__}")
    errors = surface.relative_error(getattr(truth, "gradient", truth))
    value = np.nanmedian(np.asarray(errors.detach().cpu(), dtype=float), axis=-1)
    if not (np.isfinite(value) & (value > 0)).any():
        raise ValueError("truth must differ from the surface's gradients in a finite error: there is nothing to draw")
    steps, horizons = np.asarray(surface.steps), np.asarray(surface.horizons, dtype=float)
    rows, columns = np.argsort(steps), np.argsort(horizons)
    given = {"value": value[np.ix_(rows, columns)], "steps": steps[rows], "horizons": horizons[columns]}
    with mpl.rc_context():  # the user's own figures keep their style
        return _drawn(given)


@styled()
def _drawn(given: Any) -> Figure:
    value, steps, horizons = given["value"], given["steps"], np.asarray(given["horizons"], dtype=float)
    shown = value[np.isfinite(value) & (value > 0)]
    norm = LogNorm(shown.min(), max(shown.max(), 1.01 * shown.min()))
    drawn, (ax,) = panels(1, 1, 2.4, 0.3)
    mesh(ax, value, steps, horizons, horizons[np.nanargmin(value, axis=1)], norm)
    ticks(ax.yaxis, np.log2(np.asarray(steps, dtype=float)), [f"{n:g}" for n in steps])
    some = horizons[:: -(1 + (len(horizons) - 1) // MOST)]  # from the last, which may be 1, back
    ticks(ax.xaxis, some, [f"{s:.2g}" for s in some])
    ax.set(xlabel="horizon $s$", ylabel="steps")
    colour_bar(drawn, ax, norm)
    return drawn
