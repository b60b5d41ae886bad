"""How much greedy shrinks the derivative along each direction."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from figures.style import names

TABLES = tuple(f"greedy_shrinks{part}" for part in ("_directions", "_mixtures", "_deviations", "_facts"))
QUESTION = "Along which directions does the greedy gradient shrink, and by how much?"
answer = style.Caption(
    style.choose(
        "law",
        {
            True: "On a Gaussian it shrinks by 1/√(1 + ζ²/λ) along variance λ: directions thinner than ζ are erased.",
            False: "On a Gaussian it does not follow 1/√(1 + ζ²/λ) along variance λ.",
        },
    ),
    "That law is met to {gaussian:.0e} relative on {paths} paths.",
    "In terms of the posterior variance v, √v/ζ, mixtures follow that to {margin:.0%} (median) up to ζ = "
    "{follows_low..follows_high:.2g}.",
    style.choose(
        "exceeds",
        {
            True: "Greedy exceeds the ideal derivative in {above_low..above_high:.0%} of a mixture's directions.",
            False: "Greedy never exceeds the ideal derivative.",
        },
    ),
    "{failed} of {total} derivatives have no reference.",
    "a, Gaussian; b, states and directions of mixtures; c, deviation from the law, medians and quartiles.",
)


@style.figure(legend=5)
def draw(tables: style.Tables) -> Figure:
    """Draw the law on one Gaussian, the ratio against the law on mixtures, and the deviation from the law over zeta."""
    mixtures = tables["greedy_shrinks_mixtures"]
    figure, axes = style.panels(3 if len(mixtures) else 1, 3, 2.1)
    directions = tables["greedy_shrinks_directions"]
    _gaussian(axes[0], directions[directions["variance"].notna()])
    if len(mixtures):
        _ratios(axes[1], mixtures)
        _deviations(axes[2], tables["greedy_shrinks_deviations"])
    return figure


def _gaussian(ax: Axes, rows: pd.DataFrame) -> None:
    paths = list(style.groups(rows, "path"))
    for j, (path, group) in enumerate(paths):
        group = group.assign(thin=group["zeta"] / np.sqrt(group["variance"])).sort_values("thin")
        shown = group.iloc[j :: len(paths)]  # interleaved: every path lies on the same line
        look = style.marked("0.15", "os^Dv"[j % 5], hollow=j > 0) | {"markersize": 3}
        style.errorbars(ax, shown["thin"], shown, label=names.of("paths", path), **look)
    x = np.geomspace(0.03, 30, 100)
    ax.plot(x, 1 / np.sqrt(1 + x**2), label="theory", **style.THEORY)
    ax.set(xscale="log", yscale="log", xlabel=r"$\zeta_t/\sqrt{\lambda}$", ylabel="greedy / ideal")
    ax.minorticks_off()


def _ratios(ax: Axes, mixtures: pd.DataFrame) -> None:
    for i, (_, rows) in enumerate(style.groups(mixtures, "problem")):
        look = style.series(i) | {"linestyle": "none", "markersize": 2, "markeredgewidth": 0, "alpha": 0.5}
        ax.plot(rows["law"], rows["ratio"], rasterized=True, **look)
    span = [mixtures["law"].min(), mixtures["law"].max()]
    ax.plot(span, span, **style.THEORY)
    ax.axhline(1, **style.BOUND)
    ax.set(xscale="log", yscale="log", xlabel=r"Gaussian law $\sqrt{v}/\zeta_t$", ylabel="greedy / ideal")
    ax.minorticks_off()


def _deviations(ax: Axes, deviations: pd.DataFrame) -> None:
    for i, (problem, rows) in enumerate(style.groups(deviations, "problem")):
        style.band(ax, rows, "zeta", label=names.of("problems", problem), **style.series(i))
    ax.set(xscale="log", yscale="log", xlabel=r"$\zeta_t$", ylabel="deviation from the law")
    ax.minorticks_off()
