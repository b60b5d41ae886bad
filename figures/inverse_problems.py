"""Held-out digits, their measurements, and the image that each method restores."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("inverse", "inverse_facts")
QUESTION = "What does the learned flow restore from each measurement, by which method?"
answer = style.Caption(
    "Median misfits χ²/m over operators: {greedy_misfit:.2g} (greedy), {dps_misfit:.2g} (DPS).",
    "ΠGDM: {pigdm_misfit:.2g}.",
    "Held-out MNIST digits, in the order in which they were drawn; noise {noise:g}, {budget} evaluations and products "
    "each. Below each image is its misfit. Each method's hyper-parameter was chosen on other images; crosses: it "
    "diverged or cannot run.",
)
METHODS = ("clean", *style.RESTORATION)
LARGE = 10  # a misfit beyond it is printed without decimals


@style.figure(letters=False)
def draw(tables: style.Tables) -> Figure:
    """Draw a row per operator and a column per method; row i shows the i-th image, so that the digits differ."""
    table = tables["inverse"].dropna(subset="pixels")
    operators = style.operators(table)
    methods = [name for name in METHODS if name in set(table["estimator"])]
    height = style.TEXT_WIDTH / (len(methods) + 2.2) + 0.16
    figure, axes = style.panels(len(operators) * len(methods), len(methods), height, 0.8)
    grid = np.reshape(np.array(axes, dtype=object), (len(operators), len(methods)))
    for i, operator in enumerate(operators):
        order = i % table["order"].nunique()
        for ax, name in zip(grid[i], methods, strict=True):
            _image(ax, only(table, operator=operator, order=order, estimator=name))
        label = names.two_lines(names.of("operators", operator))
        grid[i, 0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=style.SMALL)
    for ax, name in zip(grid[0], methods, strict=True):
        ax.set_title(names.sampler(name), fontsize=style.SMALL, rotation=90)
    return figure


def _image(ax: Axes, rows: pd.DataFrame) -> None:
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    row = rows.iloc[0] if len(rows) else None
    if row is None or not np.isfinite(row["value"]):
        ax.plot([0, 1, np.nan, 0, 1], [0, 1, np.nan, 1, 0], color="0.6", linewidth=0.8)
        ax.set(xlim=(0, 1), ylim=(0, 1), aspect=1)
        return
    pixels = np.frombuffer(bytes.fromhex(row["pixels"]), dtype=np.uint8)
    side = int(np.sqrt(len(pixels)))
    ax.imshow(pixels.reshape(side, side), cmap="gray", vmin=0, vmax=255)
    ax.set_xlabel(f"{row['value']:.{0 if row['value'] >= LARGE else 1}f}", labelpad=1, fontsize=style.SMALL)
