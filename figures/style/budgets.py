"""Panels of outcomes over budgets."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from figures.style import names
from figures.style.looks import BOUND, sampler
from figures.style.marks import band, errorbars, groups, ticks

OUTCOMES = {"misfit": "misfit χ²/m", "energy_distance": "energy distance"}
LOWEST = 1e-3  # on a logarithmic axis, of an interval that reaches below 0
FEW = 3  # budgets
SPREAD = 0.25  # of whiskers at a budget, to either side, in its logarithm
MOST_TICKS = 3  # of budgets that a narrow panel has room for
MANY = 0.1  # a share of diverged measurements that is shown
REFERENCES = pd.DataFrame(columns=["reference", "mean", "low", "high"])  # none


def over_budgets(ax: Axes, table: pd.DataFrame, references: pd.DataFrame = REFERENCES) -> None:
    """Draw outcomes over budgets, a line per estimator, beside those of exact samples and of the posterior's mean."""
    known = references.set_index("reference")
    for low, high in known.loc[known.index == "exact_samples", ["low", "high"]].to_numpy():
        ax.axhspan(max(low, LOWEST), high, color="0.85", linewidth=0, zorder=0)
    for mean in known.loc[known.index == "posterior_mean", "mean"]:
        ax.axhline(mean, **BOUND | {"color": "0.3"})
    budgets, lines = sorted({*table["budget"]}), list(groups(table, "estimator"))
    for (name, rows), shift in zip(lines, np.linspace(-SPREAD, SPREAD, len(lines)), strict=True):
        look = sampler(name) | {"label": names.sampler(name)}
        if len(budgets) > FEW:
            band(ax, rows, "budget", "mean", **look)
        else:  # bands between so few would hide one another
            rows = rows.assign(budget=rows["budget"] * np.exp(shift)).sort_values("budget")
            errorbars(ax, rows["budget"], rows, "mean", **{"linestyle": "-"} | look)
        failed = rows[rows["failed"] > MANY]
        ax.plot(failed["budget"], failed["mean"], "x", color="black", markersize=5)
    ax.set(xscale="log", yscale="log")
    ticks(ax.xaxis, budgets[:: -(-len(budgets) // MOST_TICKS)])
