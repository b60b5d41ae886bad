"""Measurements of real digits, their exact posterior, and guided samples."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("posterior_gallery", "posterior_gallery_facts")
QUESTION = "What do guided samples of real digits look like beside the exact posterior?"
answer = style.Caption(
    "The median misfit χ²/m of exact samples is {exact:.2g}, of unguided ones {unguided:.2g}.",
    "That of guided ones is {guided_low..guided_high:.2g} by method.",
    "Real MNIST images that the mixture was not fitted to, noise {noise:g}; below each image is its misfit. "
    "Measurements are shown by the pseudo-inverse. Each method's step size was chosen on other images.",
)


@style.figure(letters=False)
def draw(tables: style.Tables) -> Figure:
    """Draw a row per operator, and a column per kind of image."""
    table = only(tables["posterior_gallery"], member=0)
    operators, kinds = style.operators(table), style.values(table, "image")
    figure, axes = style.panels(len(operators) * len(kinds), len(kinds), 0.85, 0.4)
    places = [(operator, kind) for operator in operators for kind in kinds]
    for i, (ax, (operator, kind)) in enumerate(zip(axes, places, strict=True)):
        _image(ax, only(table, operator=operator, image=kind))
        if i < len(kinds):
            ax.set_title(names.two_lines(names.sampler(kind)), fontsize=style.SMALL)
        if i % len(kinds) == 0:
            label = names.two_lines(names.of("operators", operator))
            ax.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=style.SMALL)
    return figure


def _image(ax: Axes, rows: pd.DataFrame) -> None:
    pixels = rows.sort_values("pixel")["value"].to_numpy()
    side = int(np.sqrt(len(pixels)))
    ax.imshow(pixels.reshape(side, side), cmap="gray", vmin=-1, vmax=1)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    if rows["image"].iloc[0] != "measurement":
        ax.set_xlabel(f"{rows['misfit'].iloc[0]:.2g}", labelpad=1, fontsize=style.SMALL)
