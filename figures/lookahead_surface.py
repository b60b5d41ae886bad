"""Lookahead error over steps and horizon."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("lookahead_surface", "lookahead_surface_best", "lookahead_surface_facts")
QUESTION = "At a fixed budget of evaluations, how far should one look ahead before projecting?"
answer = style.Caption(
    style.choose(
        "stops",
        {
            "some": "The best horizon stops short for {euler_short} of {euler_all} Euler and {midpoint_short} "
            "of {midpoint_all} midpoint step counts.",
            "none": "To the end: no horizon short of t = 1 is best for any number of steps.",
        },
    ),
    "It is then {least..most:.2f} of the way ({problems!p:problem}).",
    "Colour is the median error, dots mark the best horizon for each number of steps, whose cost in evaluations is in "
    "brackets (fraction 0, greedy, takes 1; fraction 1, end-to-end, one fewer).",
)
FLOOR = 1e-5  # colours end here


@style.figure()
def draw(tables: style.Tables) -> Figure:
    """Draw one panel per problem and solver, error as colour over (horizon, steps), with a colour bar for each row."""
    table, best = only(tables["lookahead_surface"], metric="relative_error"), tables["lookahead_surface_best"]
    places = [key for key, _ in style.groups(table.sort_values("solver", kind="stable"), "solver", "problem")]
    single = table["problem"].nunique() == 1
    columns = 2 if single else table["problem"].nunique()
    figure, axes = style.panels(len(places), columns, 2.0, 0.3)
    norm = LogNorm(max(table["value"].min(), FLOOR), table["value"].max())
    for ax, (solver, problem) in zip(axes, places, strict=True):
        where = {"problem": problem, "solver": solver}
        _panel(ax, only(table, **where), only(best, **where), norm)
        ax.set_title(f"{names.of('problems', problem)}, {names.of_solver(solver)}", loc="right")
        ax.set(xlabel="(horizon − t) / (1 − t)", ylabel="steps (evaluations)")
        if not single:
            ax.label_outer()
        if single or problem == places[-1][1]:
            style.colour_bar(figure, ax, norm)
    return figure


def _panel(ax: Axes, rows: pd.DataFrame, best: pd.DataFrame, norm: LogNorm) -> None:
    value = rows.pivot(index="steps", columns="fraction", values="value")
    steps, x = value.index.to_numpy(float), value.columns.to_numpy(float)
    style.mesh(ax, value, steps, x, best.set_index("steps")["fraction"].reindex(value.index), norm)
    cost = only(rows, fraction=float(x[1])).set_index("steps")["evaluations"]  # as of every horizon short of the end
    style.ticks(ax.yaxis, np.log2(steps), [f"{n:g} ({cost[n]:g})" for n in value.index])
