"""Held-out digits, their measurements, and what each method makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from figures import style

TABLES = ("inverse",)
QUESTION = "What does the learned flow restore from each measurement, by which method?"
Tables = Mapping[str, pd.DataFrame]
NAMES = {
    "clean": "clean",
    "measurement": "meas-\nured",
    "unguided": "un-\nguided",
    "greedy": "greedy",
    "two_step_euler": "2-step\nEuler",
    "midpoint": "mid-\npoint",
    "lookahead": "look-\nahead 4",
    "adaptive": "adap-\ntive",
    "dto": "DTO",
    "flowgrad": "Flow-\nGrad",
    "dps": "DPS",
    "pigdm": "ΠGDM",
    "d_flow": "D-Flow",
}
LARGE = 10  # a misfit beyond it is printed without decimals
OPERATORS = {
    "box_inpainting": "box\ninpainting",
    "random_inpainting": "random\ninpainting",
    "super_resolution_2": "super-res.\n× 2",
    "super_resolution_4": "super-res.\n× 4",
    "gaussian_deblurring": "Gaussian\nblur",
    "motion_deblurring": "motion\nblur",
    "hdr_clipping": "HDR\nclipping",
    "nonlinear_blur": "nonlinear\nblur",
}


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per operator and method: of the operators' i-th the i-th image, so that digits differ."""
    rows = table[table["pixels"].notna()]
    operators = [name for name in OPERATORS if name in set(rows["operator"])]
    place = rows["operator"].map({name: i % rows["order"].nunique() for i, name in enumerate(operators)})
    return rows[(rows["order"] == place) & rows["estimator"].isin(NAMES)]


def answer(tables: Tables) -> str:
    """Say what is in the gallery, and how well each method fits the measurements of the images in it."""
    table = tables["inverse"]
    rows = shown(table)
    ran = rows[~rows["estimator"].isin(["clean", "measurement"]) & np.isfinite(rows["value"])]
    fits = ran.groupby("estimator", sort=False)["value"].median()
    parts = [f"{_name(str(name))} {number(value)}" for name, value in fits.items()]
    return (
        f"Held-out MNIST digits, taken in the order in which they were drawn; noise {table['noise'].iloc[0]:g} on "
        f"pixels in [-1, 1], and at most {table['budget'].iloc[0]:g} evaluations and products for each image and "
        "method. Linear measurements are shown by their pseudo-inverse. Below each image is its chi^2/m, whose median "
        f"over the images shown is: {'; '.join(parts)}. {_absent(rows)}"
    )


def number(misfit: float) -> str:
    """Return a misfit as it is printed."""
    return format(misfit, ".0f" if misfit >= LARGE else ".1f")


def _name(estimator: str) -> str:
    return NAMES[estimator].replace("-\n", "").replace("\n", " ")


def _absent(rows: pd.DataFrame) -> str:
    """Say which methods have no image, and why."""
    lost = rows[~np.isfinite(rows["value"])].groupby(["estimator", "status"], sort=False)["operator"].nunique()
    parts = [f"{_name(str(n))} on {count} operators ({str(why)[:60]})" for (n, why), count in lost.items()]
    return f"Crossed out: {'; '.join(parts)}." if parts else "No image shown is of a sample that diverged."


def draw(tables: Tables) -> Figure:
    """Draw a row per operator, and a column per method."""
    style.apply()
    rows = shown(tables["inverse"])
    operators = [name for name in OPERATORS if name in set(rows["operator"])]
    names = [name for name in NAMES if name in set(rows["estimator"])]
    size = (style.TEXT_WIDTH, 0.35 + 0.52 * len(operators))
    figure = plt.figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0))
    axes = figure.subplots(len(operators), len(names), squeeze=False)
    index = rows.set_index(["operator", "estimator"])
    for line, operator in zip(axes, operators, strict=True):
        for ax, name in zip(line, names, strict=True):
            _image(ax, index.loc[(operator, name)])
        line[0].set_ylabel(OPERATORS[operator], fontsize=6, rotation=0, ha="right", va="center")
    for ax, name in zip(axes[0], names, strict=True):
        ax.set_title(NAMES[name], fontsize=6, pad=2)
    return figure


def _image(ax: Axes, row: Any) -> None:
    ax.set(xticks=[], yticks=[])
    if not np.isfinite(row["value"]):
        ax.plot([0, 1], [0, 1], [0, 1], [1, 0], color=style.GREY, linewidth=0.8)
        ax.set(xlim=(0, 1), ylim=(0, 1), aspect=1)
        return
    levels = np.frombuffer(bytes.fromhex(row["pixels"]), np.uint8)
    side = int(np.sqrt(levels.size))
    ax.imshow(levels.reshape(side, side), cmap="gray", vmin=0, vmax=255)
    ax.set_xlabel(number(row["value"]), labelpad=1, fontsize=6)
