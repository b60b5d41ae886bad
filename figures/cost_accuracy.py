"""Error against evaluations for every estimator."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

TABLES = ("cost_accuracy", "cost_accuracy_front")
QUESTION = "What accuracy does an evaluation of the flow buy, and with which estimator?"
Tables = Mapping[str, pd.DataFrame]


def answer(tables: Tables) -> str:
    """Say who is on the front."""
    front = tables["cost_accuracy_front"]
    pairs = zip(front["estimator"], front["solver"], strict=True)
    share = pd.Series([style.method_label(e, s if isinstance(s, str) else None) for e, s in pairs]).value_counts()
    return (
        f"Of the {len(front)} settings on the Pareto fronts (black lines) of {front['problem'].nunique()} problems: "
        f"{', '.join(f'{label} ({n})' for label, n in share.items())}. End-to-end markers are filled, lookahead ones "
        "open; both take one VJP with each evaluation, others none (identity Jacobian) or other numbers. Whiskers of "
        "the front are quartiles over states."
    )


def draw(tables: Tables) -> Figure:
    """Draw one panel per problem and time."""
    style.apply()
    table, front = tables["cost_accuracy"], tables["cost_accuracy_front"]
    table = table[table["metric"] == "relative_error"]
    groups = list(table.groupby(["problem", "t"], sort=False))
    columns = 2
    rows = -(-len(groups) // columns)
    labels = len(table.groupby(["estimator", "solver"], dropna=False))
    size = (style.TEXT_WIDTH, 1.7 * rows + 0.16 * -(-labels // 3) + 0.2)
    figure, axes = plt.subplots(rows, columns, figsize=size, sharex=True, squeeze=False)
    for ax, ((problem, t), group) in zip(axes.ravel(), groups, strict=False):
        _panel(ax, group, front[(front["problem"] == problem) & (front["t"] == t)])
        ax.set_title(f"{problem}, t = {t:g}")
    for ax in axes[-1]:
        ax.set_xlabel("evaluations per sample")
    for ax in axes[:, 0]:
        ax.set_ylabel("relative error")
    unique = dict(zip(*reversed(axes[0, 0].get_legend_handles_labels()), strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=3)
    return style.finish(figure, list(axes.ravel()[: len(groups)]))


def _panel(ax: Axes, group: pd.DataFrame, front: pd.DataFrame) -> None:
    front = front.sort_values("evaluations")
    half = np.abs(front[["low", "high"]].to_numpy().T - front["value"].to_numpy())
    ax.errorbar(front["evaluations"], front["value"], yerr=half, color="black", lw=0.9, elinewidth=0.6, zorder=2)
    for (estimator, solver), rows in group.groupby(["estimator", "solver"], dropna=False, sort=False):
        named = solver if isinstance(solver, str) else None
        label = style.method_label(str(estimator), named)
        look = style.method(str(estimator), named)
        ax.plot(rows["evaluations"], rows["value"], linestyle="none", label=label, zorder=3, **look)
    ax.set(yscale="log")
    ax.set_xscale("log", base=2)
