"""End-to-end error against the number of steps."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("convergence", "convergence_orders", "convergence_facts")
QUESTION = "Does the end-to-end gradient converge to the ideal one at the order of its solver?"
answer = style.Caption(
    "{near} of {fitted} fitted orders lie within {margin} of the declared one.",
    "Farthest off is {solver!n} on {path!n} with {slope:.2f}, declared {declared}.",
    "{refused} combinations have too few errors to fit.",
    "Panels are paths of the {problem!n} problem: medians and quartiles over states, dashes the declared slopes in the "
    "window of the fit, dots the bound of the reference's error. Last panel: fitted orders with the "
    "95% intervals of the line fits; the points of a row are, from the top, each problem's paths by name.",
)


@style.figure(legend=6)
def draw(tables: style.Tables) -> Figure:
    """Draw one panel per path, and the fitted orders beside the declared ones."""
    errors, orders = only(tables["convergence"], metric="relative_error"), tables["convergence_orders"]
    problem = errors["problem"].iloc[0]
    paths = list(style.groups(only(errors, problem=problem), "path"))
    figure, axes = style.panels(len(paths) + 1, columns=3, height=1.95)
    for ax, (path, rows) in zip(axes, paths, strict=False):
        _errors(ax, rows, only(orders, path=path, problem=problem, status="ok"))
        ax.set_title(names.of("paths", path))
    _orders(axes[-1], orders)
    return figure


def _errors(ax: Axes, rows: pd.DataFrame, fits: pd.DataFrame) -> None:
    for solver, group in style.groups(rows, "solver"):
        look = style.method("end_to_end", solver) | (
            {"markersize": 5, "markerfacecolor": "none"} if solver == "ddim" else {}
        )
        style.band(ax, group, "steps", label=names.of_solver(solver), **look)
    for fit in fits.itertuples():  # the declared slope, below the window of the fit
        steps = np.array([1 / fit.h_max, 1 / fit.h_min])
        last = only(rows, solver=fit.solver, steps=steps[1])["value"].iloc[0]
        style.power_law(ax, steps, 0.4 * last * steps[1] ** fit.declared, -fit.declared, label=False)
    ax.axhline(rows["reference_bound"].max(), **style.BOUND)
    ax.set(yscale="log", xlabel="steps", ylabel="relative error", ylim=(3e-14, 30))
    style.doublings(ax.xaxis, rows["steps"], ticks_at_most=4)


def _orders(ax: Axes, orders: pd.DataFrame) -> None:
    solvers = style.values(orders.sort_values(["declared", "solver"]), "solver")
    for i, solver in enumerate(solvers):
        rows, look = only(orders, solver=solver), style.method("end_to_end", solver)
        fits = only(rows, status="ok")
        y = i + np.linspace(-0.3, 0.3, max(len(fits), 1))[: len(fits)]
        style.errorbars(ax, y, fits, "slope", along="x", **look | {"markersize": 2.5})
        ax.plot([rows["declared"].iloc[0]] * 2, [i - 0.45, i + 0.45], **style.THEORY)
    style.rows_of_names(ax, [names.of_solver(s) for s in solvers])
    ax.set(xlabel="fitted order", xlim=(0, orders["declared"].max() + 1))
    style.ticks(ax.xaxis, sorted({*orders["declared"]}))
    ax.set_title("orders")
