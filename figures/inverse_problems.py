"""Held-out digits, their measurements, and the image that each method restores."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("regimes_images", "regimes_images_best", "regimes_images_facts")
QUESTION = "What does the learned flow restore from each measurement, by which gradient in which regime?"
answer = style.Caption(
    "{best!g} ({best_regime!n}) has the best PSNR on {wins} of {operators!p:operator}.",
    "Held-out MNIST digits in the order drawn; noise {noise:g}. Measured: of linear operators the "
    "pseudo-inverse. The columns are a selection; DPS is greedy with its authors' step rule. Each method is tuned for "
    "PSNR on other images and shown at its best budget of at most {budget} evaluations and products. Below: misfit "
    "χ²/m; crosses: diverged or cannot run.",
)
SHOWN = (
    ("references", "clean"),
    ("references", "measurement"),
    ("references", "unguided"),
    ("guidance", "greedy"),
    ("guidance", "midpoint"),
    ("guidance", "end_to_end"),
    ("source", "greedy"),
    ("source", "end_to_end"),
    ("source_late", "greedy"),
    ("source_late", "end_to_end"),
    ("controls", "end_to_end"),
    ("published", "dps"),
    ("published", "mgps"),
    ("published", "pigdm"),
)
KINDS = {"guidance": "per step: ", "source": "source: ", "source_late": "late: ", "controls": "controls: "}
LARGE = 10  # a misfit beyond it is printed without decimals


@style.figure(letters=False)
def draw(tables: style.Tables) -> Figure:
    """Draw a row per operator and a column per method; row i shows the i-th image, so that the digits differ."""
    table = _at_best(tables["regimes_images"], tables["regimes_images_best"]).dropna(subset="pixels")
    operators = style.operators(table)
    there = set(zip(table["regime"], table["estimator"], strict=True))
    methods = [pair for pair in SHOWN if pair in there]
    height = style.TEXT_WIDTH / (len(methods) + 2.2) + 0.16
    figure, axes = style.panels(len(operators) * len(methods), len(methods), height, 1.4)
    grid = np.reshape(np.array(axes, dtype=object), (len(operators), len(methods)))
    for i, operator in enumerate(operators):
        order = i % table["order"].nunique()
        for ax, (regime, name) in zip(grid[i], methods, strict=True):
            _image(ax, only(table, operator=operator, order=order, regime=regime, estimator=name))
        label = names.two_lines(names.of("operators", operator))
        grid[i, 0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=style.SMALL)
    for ax, (regime, name) in zip(grid[0], methods, strict=True):
        ax.set_title(KINDS.get(regime, "") + names.sampler(name), fontsize=style.SMALL, rotation=90)
    return figure


def _at_best(table: pd.DataFrame, best: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each method's best budget, tuned for PSNR, and those of the references."""
    table = table.assign(aim=table["aim"].fillna("none"), budget=table["budget"].fillna(0))
    keys = ["operator", "regime", "estimator", "budget", "aim"]
    places = best.loc[best["aim"].isin(["psnr", "none"]), keys].drop_duplicates()
    return table.merge(places, on=keys)


def _image(ax: Axes, rows: pd.DataFrame) -> None:
    ax.set(xticks=[], yticks=[], anchor="S")  # below its upright title, which is longer than it
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
