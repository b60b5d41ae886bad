"""Gradients on real handwritten digits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

TABLES = ("digits", "digits_images")
QUESTION = "What do greedy, lookahead and ideal gradients look like on real digits, and how far apart are they?"
Tables = Mapping[str, pd.DataFrame]


def answer(tables: Tables) -> str:
    """Say how the greedy error falls, and what one lookahead step changes."""
    table = tables["digits"]
    table = table[table["metric"] == "relative_error"]
    greedy = table[table["estimator"] == "greedy"].set_index("t")["value"]
    first, last = greedy.index.min(), greedy.index.max()
    look = table[(table["estimator"] == "lookahead") & (table["steps"] == 1)].set_index("t")["value"]
    middle = min(greedy.index, key=lambda t: abs(t - 0.5))
    return (
        f"In d = 64 the greedy gradient is wrong by {greedy[first]:.0%} at t = {first:g} and by {greedy[last]:.1%} at "
        f"t = {last:g}; one midpoint step to half-way turns {greedy[middle]:.0%} into {look[middle]:.0%} at t = "
        f"{middle:g}. Gradient images are scaled by their own largest value; the numbers are their relative errors."
    )


def draw(tables: Tables) -> Figure:
    """Draw images over time, and the error curves."""
    style.apply()
    images = tables["digits_images"]
    times, names = (list(dict.fromkeys(images[key])) for key in ("t", "image"))
    names.remove("target")
    figure = plt.figure(figsize=(style.TEXT_WIDTH, 5.6))
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.55, 1], squeeze=False)[:, 0]
    axes = top.subplots(len(names), len(times) + 1)
    for i, name in enumerate(names):
        for j, t in enumerate(times):
            _image(axes[i, j + 1], images[(images["image"] == name) & (images["t"] == t)], gradient=name != "state")
            if i == 0:
                axes[i, j + 1].set_title(f"t = {t:g}")
        _label(axes[i, 0], {"state": "state $x_t$"}.get(name, name).replace(", ", ",\n"))
    ax = bottom.subplots()
    _curves(ax, tables["digits"])
    return style.finish(figure, [ax])


def _image(ax: Axes, rows: pd.DataFrame, gradient: bool) -> None:
    pixels = rows.sort_values("pixel")["value"].to_numpy()
    side = int(np.sqrt(len(pixels)))
    top = np.abs(pixels).max() if gradient else 1.5
    cmap = "PuOr" if gradient else "gray"
    ax.imshow(pixels.reshape(side, side), cmap=cmap, vmin=-top, vmax=top)
    ax.set(xticks=[], yticks=[])
    error = rows["relative_error"].iloc[0]
    if np.isfinite(error) and error > 0:
        ax.set_xlabel(f"{error:.2g}", labelpad=1, fontsize=7)


def _label(ax: Axes, text: str) -> None:
    ax.axis("off")
    ax.text(0.9, 0.5, text, ha="right", va="center", transform=ax.transAxes, fontsize=7)


def _curves(ax: Axes, table: pd.DataFrame) -> None:
    table = table[table["metric"] == "relative_error"]
    for (estimator, solver, steps), rows in table.groupby(["estimator", "solver", "steps"], dropna=False, sort=False):
        named = solver if isinstance(solver, str) else None
        look = style.method(str(estimator), named)
        label = str(estimator).replace("_", "-") + (f" {named}, {int(steps)} steps" if named else "")
        dash = "-" if not named or steps in (1, 16) else "--"
        rows = rows.sort_values("t")
        ax.plot(rows["t"], rows["value"], label=label.replace("1 steps", "1 step"), linestyle=dash, **look)
        ax.fill_between(rows["t"], rows["low"], rows["high"], color=look["color"], alpha=0.15, linewidth=0)
    ax.set(yscale="log", xlabel="t", ylabel="relative error", xlim=(0, 1))
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
