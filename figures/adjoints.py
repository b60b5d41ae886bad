"""Discretise-then-optimise against optimise-then-discretise."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

TABLES = ("adjoints",)
QUESTION = "What does solving the adjoint equation cost in accuracy, against the exact gradient of the discrete solve?"
Tables = Mapping[str, pd.DataFrame]
SOLVERS = ("euler", "rk4")
TRUTHS = {"ideal": "error to the\nideal gradient", "discrete": "distance to the\ndiscrete gradient"}


def answer(tables: Tables) -> str:
    """Give backsolve's inconsistency at the largest number of steps, by problem."""
    table = tables["adjoints"]
    last = table["steps"].max()
    rows = table[(table["estimator"] == "adjoint_backsolve") & (table["steps"] == last) & (table["solver"] == "euler")]
    rows = rows[rows["against"] == "discrete"]
    half = table.merge(rows.assign(steps=last // 2)[["problem", "estimator", "steps", "solver", "against"]])
    rates = np.log2(half["value"].to_numpy() / rows["value"].to_numpy())
    listed = ", ".join(f"{r.problem} {r.value:.1%} (upper quartile {r.high:.1%})" for r in rows.itertuples())
    return (
        f"With {last} Euler steps, backsolve still differs from the gradient of its own discrete solve by {listed}; "
        f"the last doubling of the steps shrank that as steps^-{rates.min():.2f} to steps^-{rates.max():.2f}. "
        "End-to-end (discretise, then optimise) is that gradient exactly, which does not make it the nearest to the "
        "ideal one. Bands are quartiles over states."
    )


def draw(tables: Tables) -> Figure:
    """Draw rows of truths and solvers, columns of problems."""
    style.apply()
    table = tables["adjoints"]
    problems = list(dict.fromkeys(table["problem"]))
    lines = [(solver, against) for solver in SOLVERS for against in TRUTHS]
    size = (style.TEXT_WIDTH, 1.45 * len(lines) + 0.5)
    figure, axes = plt.subplots(len(lines), len(problems), figsize=size, sharex=True, squeeze=False)
    for i, (solver, against) in enumerate(lines):
        for ax, problem in zip(axes[i], problems, strict=True):
            own = (table["solver"] == solver) | ((table["estimator"] == "adjoint_deis") & (solver == "euler"))
            _panel(ax, table[own & (table["problem"] == problem) & (table["against"] == against)])
            ax.set_title(f"{problem}, {solver}")
        axes[i, 0].set_ylabel(TRUTHS[against])
    for ax in axes[-1]:
        ax.set_xlabel("steps")
    unique = dict(zip(*reversed(axes[0, 0].get_legend_handles_labels()), strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=3)
    return style.finish(figure, list(axes.ravel()))


def _panel(ax: Axes, rows: pd.DataFrame) -> None:
    rows = rows[rows["value"] > 0]  # end-to-end is the discrete gradient itself
    for (estimator, order), group in rows.groupby(["estimator", "order"], dropna=False, sort=False):
        group = group.sort_values("steps")
        look = style.method(str(estimator))
        dash = "--" if order == 2 else "-"
        label = style.method_label(str(estimator)) + (f", order {order:.0f}" if order == order else "")
        ax.plot(group["steps"], group["value"], linestyle=dash, label=label, **look)
        ax.fill_between(group["steps"], group["low"], group["high"], color=look["color"], alpha=0.12, linewidth=0)
    ax.set(yscale="log")
    ax.set_xscale("log", base=2)
