"""Measurements of real digits, their exact posterior, and what guided samplers make of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

TABLES = ("posterior_gallery",)
QUESTION = "What do guided samples of real digits look like beside the exact posterior?"
Tables = Mapping[str, pd.DataFrame]
NAMES = {
    "image": "held-out\nimage",
    "measurement": "measured\n(pseudo-inv.)",
    "mean": "exact\nmean",
    "exact": "exact\nsample",
    "unguided": "unguided",
    "likelihood:greedy": "greedy",
    "dps:greedy": "greedy,\nDPS steps",
    "likelihood:midpoint": "midpoint",
}


def answer(tables: Tables) -> str:
    """Say how well each kind of sample fits the measurement."""
    table = tables["posterior_gallery"].drop_duplicates(["operator", "image", "member"])
    fits = table[~table["image"].isin(["image", "measurement", "mean"])].groupby("image", sort=False)["misfit"]
    parts = [f"{NAMES[str(name)].replace(chr(10), ' ')} {values.median():.2g}" for name, values in fits]
    return (
        "Real MNIST images that the mixture was not fitted to. Below each image is its chi^2/m; over the samples shown "
        f"its median is: {'; '.join(parts)}. Each method's step size was chosen on other images."
    )


def draw(tables: Tables) -> Figure:
    """Draw a row per operator, and a column per kind of image."""
    style.apply()
    table = tables["posterior_gallery"]
    operators, names = (list(dict.fromkeys(table[key])) for key in ("operator", "image"))
    size = (style.TEXT_WIDTH, 0.5 + 0.78 * len(operators))
    figure, axes = plt.subplots(len(operators), len(names), figsize=size, squeeze=False)
    for row, operator in zip(axes, operators, strict=True):
        for ax, name in zip(row, names, strict=True):
            _image(ax, table[(table["operator"] == operator) & (table["image"] == name) & (table["member"] == 0)])
        row[0].set_ylabel(str(operator).replace("_", "\n"), fontsize=7)
    for ax, name in zip(axes[0], names, strict=True):
        ax.set_title(NAMES[str(name)], fontsize=7)
    return figure


def _image(ax: Axes, rows: pd.DataFrame) -> None:
    pixels = rows.sort_values("pixel")["value"].to_numpy()
    side = int(np.sqrt(len(pixels)))
    ax.imshow(pixels.reshape(side, side), cmap="gray", vmin=-1, vmax=1)
    ax.set(xticks=[], yticks=[])
    if rows["image"].iloc[0] != "measurement":
        ax.set_xlabel(f"{rows['misfit'].iloc[0]:.2g}", labelpad=1, fontsize=7)
