"""Error against evaluations for every estimator."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("cost_accuracy", "cost_accuracy_front", "cost_accuracy_facts")
QUESTION = "What accuracy does an evaluation of the flow buy, and with which estimator?"
answer = style.Caption(
    "Of {count} points on {panels!p:Pareto front}, {first_count} are of {first!n}.",
    "{second_count} are of {second!n}.",
    "Greedy is on {greedy!p:front}.",
    "Fronts are black, with quartiles over states.",
    "Lines join a method's least errors at each cost. End-to-end markers are filled, lookahead ones hollow; both take "
    "one vector-Jacobian product with each evaluation, others none (identity Jacobian) or other numbers.",
)


@style.figure(legend=3)
def draw(tables: style.Tables) -> Figure:
    """Draw one panel per problem and time."""
    front = tables["cost_accuracy_front"]
    places = list(style.groups(only(tables["cost_accuracy"], metric="relative_error"), "problem", "t"))
    figure, axes = style.panels(len(places), 2, 2.0 if len(places) > 1 else 2.8, 1.4)
    for i, (ax, ((problem, t), rows)) in enumerate(zip(axes, places, strict=True)):
        _panel(ax, rows, only(front, problem=problem, t=t))
        ax.set(title=f"{names.of('problems', problem)}, $t = {t:g}$", ylabel="" if i % 2 else "relative error")
        ax.set_xlabel("evaluations" if i + 2 >= len(places) else "")
    return figure


def _panel(ax: Axes, table: pd.DataFrame, front: pd.DataFrame) -> None:
    for (estimator, solver), rows in style.groups(table, "estimator", "solver"):
        look = style.method(estimator, solver) | {"linewidth": 0.5, "zorder": 3}
        look |= {"markersize": 9, "zorder": 5} if estimator == "greedy" else {}
        best = rows.sort_values(["evaluations", "value"]).drop_duplicates("evaluations")
        ax.plot(best["evaluations"], best["value"], label=names.method(estimator, solver), **look)
    front = front.sort_values("evaluations")
    style.errorbars(ax, front["evaluations"], front, color="black", linestyle="-", linewidth=0.9, zorder=2)
    ax.set(yscale="log")
    style.doublings(ax.xaxis, table["evaluations"])
