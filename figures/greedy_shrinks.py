"""How much greedy shrinks the derivative along each direction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

TABLES = ("greedy_shrinks", "greedy_shrinks_directions")
QUESTION = "Along which directions does the greedy gradient shrink, and by how much?"
Tables = Mapping[str, pd.DataFrame]
AGREES = 0.05


def answer(tables: Tables) -> str:
    """Say how well the Gaussian law holds, on the Gaussian and on mixtures."""
    directions = tables["greedy_shrinks_directions"]
    exact = directions["variance"].notna()
    text = (
        f"On one Gaussian the derivative shrinks by 1/sqrt(1 + zeta^2/lambda) on {directions[exact]['path'].nunique()} "
        f"paths, to {directions[exact]['deviation'].max():.0e} relative; directions thinner than zeta are erased. "
        "Written as (posterior standard deviation)/zeta the law can be asked of a mixture: "
    )
    parts = []
    for problem, rows in _mixtures(tables["greedy_shrinks"]).groupby("problem", sort=False):
        held = rows["deviation"].groupby(rows["zeta"]).median()
        limit = held[held <= AGREES].index.max()
        parts.append(
            f"{problem} follows it to {AGREES:.0%} (median) up to zeta = {limit:.2g}, and greedy exceeds the ideal "
            f"derivative in {(rows['ratio'] > 1).mean():.0%} of all directions"
        )
    return (
        text + "; ".join(parts) + ". Where modes compete, greedy does not always shrink. Points in b are states and "
        f"directions; bands are quartiles. {int(directions['failed'].sum())} of {int(directions['samples'].sum())} "
        "derivatives have no reference."
    )


def _mixtures(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of mixtures with the ratio greedy/ideal, the law and their relative deviation."""
    rows = table[table["variance"].isna()]
    ratio, law = rows["greedy"] / rows["ideal"], np.sqrt(rows["posterior"].clip(lower=0)) / rows["zeta"]
    return rows.assign(ratio=ratio, law=law, deviation=(ratio / law - 1).abs())


def draw(tables: Tables) -> Figure:
    """Draw the law on one Gaussian, the ratio against the law on mixtures, and where the law is left."""
    style.apply()
    figure, axes = plt.subplots(1, 3, figsize=(style.TEXT_WIDTH, 2.35))
    directions, mixtures = tables["greedy_shrinks_directions"], _mixtures(tables["greedy_shrinks"])
    _gaussian(axes[0], directions[directions["variance"].notna()])
    for i, (problem, rows) in enumerate(mixtures.groupby("problem", sort=False)):
        look = style.series(i)
        axes[1].plot(
            rows["law"], rows["ratio"], look["marker"], color=look["color"], ms=2, mew=0, alpha=0.5, rasterized=True
        )
        _deviation(axes[2], rows, i, str(problem))
    span = np.array([mixtures["law"].min(), mixtures["law"].max()])
    axes[1].plot(span, span, **style.THEORY)
    axes[1].axhline(1, color="0.7", linewidth=0.8, linestyle=":")
    axes[1].set(xscale="log", yscale="log", xlabel=r"Gaussian law $\sqrt{v}/\zeta_t$", ylabel="greedy / ideal")
    handles = [pair for ax in (axes[0], axes[2]) for pair in zip(*ax.get_legend_handles_labels(), strict=True)]
    figure.legend(*zip(*handles, strict=True), loc="outside lower center", ncols=5, columnspacing=1.2)
    for ax in (axes[0], axes[2]):
        ax.minorticks_off()
    return style.finish(figure, list(axes))


def _gaussian(ax: Axes, rows: pd.DataFrame) -> None:
    for j, (path, group) in enumerate(rows.groupby("path", sort=False)):
        group = group.assign(thin=group["zeta"] / np.sqrt(group["variance"])).sort_values("thin")
        chosen = group.iloc[j :: rows["path"].nunique()]  # interleaved: every path lies on the same line
        half = [chosen["value"] - chosen["low"], chosen["high"] - chosen["value"]]
        look: dict[str, Any] = {"color": f"{0.15 * j:.2f}", "marker": "o^sDv"[j % 5], "markersize": 3, "linestyle": ""}
        ax.errorbar(chosen["thin"], chosen["value"], yerr=half, label=style.path_label(str(path)), **look)
    x = np.geomspace(0.03, 30, 100)
    ax.plot(x, 1 / np.sqrt(1 + x**2), label="theory", **style.THEORY)
    ax.set(xscale="log", yscale="log", xlabel=r"$\zeta_t/\sqrt{\lambda}$", ylabel="greedy / ideal")


def _deviation(ax: Axes, rows: pd.DataFrame, i: int, problem: str) -> None:
    look = style.series(i)
    quartiles = rows.groupby("zeta")["deviation"].quantile([0.25, 0.5, 0.75]).unstack().clip(lower=1e-16)
    ax.plot(quartiles.index, quartiles[0.5], label=problem, **look)
    ax.fill_between(quartiles.index, quartiles[0.25], quartiles[0.75], color=look["color"], alpha=0.15, linewidth=0)
    ax.set(xscale="log", yscale="log", xlabel=r"$\zeta_t$", ylabel="deviation from the law")
