"""Gradients on real handwritten digits."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("digits", "digits_facts", "digits_images")
QUESTION = "What do greedy, lookahead and ideal gradients look like on real digits, and how far apart are they?"
answer = style.Caption(
    "Greedy's median relative error is {first:.0%} at t = {first_t:g} and {last:.1%} at t = {last_t:g}.",
    "One midpoint step to half-way turns {greedy:.0%} into {lookahead:.0%} at t = {middle_t:g}.",
    "The loss is half the squared distance to another digit. Gradient images are scaled by their own largest value; "
    "the numbers below them are their relative errors. Curves: medians and quartiles over states, d = 64.",
)
LABELS = {"greedy": "greedy", "lookahead, 1 step": "lookahead,\n1 step", "lookahead, 4 steps": "lookahead,\n4 steps"}
LABELS |= {"state": "state $x_t$", "ideal": "ideal"}


@style.figure(letters=False)
def draw(tables: style.Tables) -> Figure:
    """Draw images over time, and the error curves."""
    figure = plt.figure(figsize=(style.TEXT_WIDTH, 5.6))
    top, bottom = np.ravel(np.asarray(figure.subfigures(2, 1, height_ratios=[1.55, 1])))
    _images(top, tables["digits_images"])
    _curves(bottom.subplots(), only(tables["digits"], metric="relative_error"))
    return figure


def _images(part: SubFigure, images: pd.DataFrame) -> None:
    shown = images[images["image"] != "target"]
    times, kinds = style.values(shown, "t"), style.values(shown, "image")
    axes = part.subplots(len(kinds), len(times), squeeze=False)
    for row, kind in zip(axes, kinds, strict=True):
        for ax, t in zip(row, times, strict=True):
            _image(ax, only(shown, image=kind, t=t), gradient=kind != "state")
        row[0].set_ylabel(LABELS.get(kind, kind), rotation=0, ha="right", va="center")
    for ax, t in zip(axes[0], times, strict=True):
        ax.set_title(f"t = {t:g}")
    bar = part.colorbar(ScalarMappable(Normalize(-1, 1), "PuOr"), ax=axes, label="gradient / largest value")
    bar.outline.set_visible(False)


def _image(ax: Axes, rows: pd.DataFrame, gradient: bool) -> None:
    pixels = rows.sort_values("pixel")["value"].to_numpy()
    side = int(np.sqrt(len(pixels)))
    top = np.abs(pixels).max() if gradient else 1.5
    ax.imshow(pixels.reshape(side, side), cmap="PuOr" if gradient else "gray", vmin=-top, vmax=top)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    error = rows["relative_error"].iloc[0]
    if np.isfinite(error) and error > 0:
        ax.set_xlabel(f"{error:.2g}", labelpad=1, fontsize=style.SMALL)


def _curves(ax: Axes, table: pd.DataFrame) -> None:
    for (estimator, solver, steps), rows in style.groups(table, "estimator", "solver", "steps"):
        label = names.method(estimator, solver, steps) + ("" if steps is None else f" step{'s' * (steps > 1)}")
        style.band(ax, rows, "t", label=label, **style.method(estimator, solver, steps))
    ax.set(yscale="log", xlabel="t", ylabel="relative error", xlim=(0, 1))
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
