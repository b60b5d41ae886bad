"""End-to-end error against the number of steps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

TABLES = ("convergence", "convergence_orders")
QUESTION = "Does the end-to-end gradient converge to the ideal one at the order of its solver?"
Tables = Mapping[str, pd.DataFrame]


def answer(tables: Tables) -> str:
    """Say where the fitted order agrees with the declared one."""
    orders = tables["convergence_orders"]
    kept = orders[orders["status"] == "ok"]
    near = (kept["slope"] - kept["declared"]).abs() <= 0.1
    text = f"{int(near.sum())} of {len(kept)} fitted orders lie within 0.1 of the declared one"
    away = kept[~near]
    if len(away):
        listed = [f"{r.solver} on {style.path_label(r.path)} ({r.problem}) {r.slope:.2f}" for r in away.itertuples()]
        text += "; the others: " + ", ".join(listed)
    refused = orders[orders["status"] != "ok"]
    if len(refused):
        text += f". {len(refused)} combinations have no order, such as {refused.iloc[0]['solver']} on "
        text += f"{style.path_label(refused.iloc[0]['path'])}, where the velocity is infinite at t = 1"
    return (
        text
        + ". Dashed lines below the data have the declared slopes over the window of the fit; bands are quartiles over "
        "states; the dotted line is the bound of the reference's own error."
    )


def draw(tables: Tables) -> Figure:
    """Draw one panel per path (rows are problems), and the fitted orders beside the declared ones."""
    style.apply()
    table, orders = tables["convergence"], tables["convergence_orders"]
    problems, paths = (list(dict.fromkeys(table[name])) for name in ("problem", "path"))
    problem = problems[0]
    panels = len(paths) + 1
    columns = 3
    figure, axes = plt.subplots(
        -(-panels // columns), columns, figsize=(style.TEXT_WIDTH, 1.95 * (-(-panels // columns)) + 0.4)
    )
    axes = list(np.ravel(axes))
    for ax, path in zip(axes, paths, strict=False):
        fitted = orders[(orders["path"] == path) & (orders["problem"] == problem)]
        rows = table[(table["path"] == path) & (table["problem"] == problem) & (table["metric"] == "relative_error")]
        _panel(ax, rows, fitted)
        ax.set_title(style.path_label(path))
    _orders(axes[len(paths)], orders)
    for ax in axes[panels:]:
        ax.remove()
    handles = {
        label: handle
        for ax in axes[: len(paths)]
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=6)
    return style.finish(figure, axes[:panels])


def _panel(ax: Axes, rows: pd.DataFrame, fitted: pd.DataFrame) -> None:
    for solver, group in rows.groupby("solver"):
        group = group.sort_values("steps")
        look = style.method("end_to_end", str(solver))
        ax.plot(group["steps"], group["value"], label=str(solver), **look)
        ax.fill_between(group["steps"], group["low"], group["high"], color=look["color"], alpha=0.15, linewidth=0)
    for fit in fitted[fitted["status"] == "ok"].itertuples():  # the declared slope, through the end of the window
        steps = np.array([1 / fit.h_max, 1 / fit.h_min])
        last = rows.loc[(rows["solver"] == fit.solver) & (rows["steps"] == steps[1]), "value"].iloc[0]
        ax.plot(steps, 0.4 * last * (steps / steps[1]) ** -float(fit.declared), **style.THEORY)
    ax.axhline(rows["reference_bound"].max(), color="0.7", linewidth=0.8, linestyle=":")
    ax.set(xscale="log", yscale="log", xlabel="steps", ylabel="relative error", ylim=(1e-13, 9))
    ax.set_xscale("log", base=2)


def _orders(ax: Axes, orders: pd.DataFrame) -> None:
    solvers = list(orders.sort_values(["declared", "solver"])["solver"].unique())
    kept = orders[orders["status"] == "ok"]
    for i, solver in enumerate(solvers):
        rows = kept[kept["solver"] == solver]
        look = style.method("end_to_end", solver)
        y = i + np.linspace(-0.3, 0.3, max(len(rows), 1))[: len(rows)]
        half = [rows["slope"] - rows["low"], rows["high"] - rows["slope"]]
        ax.errorbar(rows["slope"], y, xerr=half, fmt=look["marker"], color=look["color"], ms=2.2, lw=0.7)
        declared = orders.loc[orders["solver"] == solver, "declared"].iloc[0]
        ax.plot([declared] * 2, [i - 0.45, i + 0.45], **style.THEORY)
    ax.set(
        yticks=range(len(solvers)), yticklabels=solvers, xlabel="fitted order (95 %)", ylim=(len(solvers) - 0.4, -0.6)
    )
    ax.set_title("orders")
