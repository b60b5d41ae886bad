"""Single-step errors against zeta and 1 - t, and their slopes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("superconvergence", "superconvergence_slopes", "superconvergence_facts")
QUESTION = "Of what order is a single solver step into t = 1, and in which variable?"
answer = style.Caption(
    "In a solver's own variable {near} of {fits} slopes are within {margin:g} of theory.",
    "{exceed} are above the usual order + 1.",
    style.choose("midpoint", {True: "Midpoint gains an order on CondOT ({midpoint_slope:.2f}).", False: ""}),
    "Locally DDIM's slope on linear VP is {vp_low..vp_high:.2f} in ζ, but {vp_first:.2f} to {vp_last:.2f} in 1 − t.",
    "{refused} fits are missing.",
    "Medians and quartiles of errors of DΦ along one x/α, {problem!n}; dashes: theory; dots: reference's error. Last "
    "row: slopes, 95% intervals; bars: theory.",
)
LEAST = 1e-15  # shown: what is below is round-off
CURVES = ("euler", "midpoint", "heun", "rk4", "ddim")
VARIABLES = {"zeta": r"$\zeta_t$", "1 - t": r"$1-t$"}


@style.figure()
def draw(tables: style.Tables) -> Figure:
    """Draw errors against zeta (first row) and 1 - t (second) and the slopes (third), one column per path."""
    table = only(tables["superconvergence"], metric="relative_error")
    table = table.assign(**{"1 - t": 1 - table["t"]})
    table, slopes = only(table, problem=table["problem"].iloc[0]), only(tables["superconvergence_slopes"], status="ok")
    paths = list(style.groups(table, "path"))
    n = len(paths)
    figure, axes = style.panels(3 * n, n, 1.95, 0.5, height_ratios=[1, 1, 1.3])
    for j, (path, rows) in enumerate(paths):
        fits = only(slopes, path=path, problem=rows["problem"].iloc[0])
        for ax, variable in zip((axes[j], axes[n + j]), VARIABLES, strict=True):
            _errors(ax, rows, only(fits, variable=variable), variable)
        axes[j].set_title(names.of("paths", path))
        _slopes(axes[2 * n + j], only(slopes, path=path))
    for i, ax in enumerate(axes):
        ax.tick_params(labelleft=i % n == 0)
    for ax in (axes[0], axes[n]):
        ax.set_ylabel("relative error of DΦ")
    handles = style.labelled(axes[0])
    for variable, hollow in (("slope in ζ", False), ("slope in 1 − t", True)):
        handles[variable] = Line2D([], [], linestyle="none", **style.marked("0.3", "o", hollow))
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=7)
    return figure


def _errors(ax: Axes, rows: pd.DataFrame, fits: pd.DataFrame, variable: str) -> None:
    for solver in CURVES:
        look = style.method("end_to_end", solver) | {"markersize": 2.3, "linewidth": 0.9}
        if solver == "ddim":  # on CondOT it is Euler's method: hollow and larger, to be seen around its marks
            look |= {"markerfacecolor": "none", "markersize": 4.5, "linewidth": 0.6}
        shown = only(rows, solver=solver)
        style.band(ax, shown[shown["value"] > LEAST], variable, label=names.of_solver(solver), **look)
    for fit in only(fits, solver=CURVES).itertuples():
        own = only(rows, solver=fit.solver)
        first = own.loc[np.isclose(own[variable], fit.h_min, rtol=1e-9), "value"].iloc[0]
        style.power_law(ax, [fit.h_min, fit.h_max], 0.3 * first / fit.h_min**fit.theory, fit.theory, label=False)
    ax.axhline(rows["reference_bound"].max(), **style.BOUND)
    ax.set(xscale="log", yscale="log", xlabel=VARIABLES[variable], ylim=(LEAST / 3, 3))
    ax.minorticks_off()


def _slopes(ax: Axes, slopes: pd.DataFrame) -> None:
    solvers = sorted(style.values(slopes, "solver"), key=lambda s: (s.endswith("_zeta"), s == "ddim"))
    problems = style.values(slopes, "problem")
    for row in slopes.to_dict("records"):
        hollow = row["variable"] != "zeta"
        shift = (problems.index(row["problem"]) - (len(problems) - 1) / 2) * 0.2
        y = solvers.index(row["solver"]) + (0.2 if hollow else -0.2) + shift
        look = style.method("lookahead" if hollow else "end_to_end", row["solver"].removesuffix("_zeta"))
        ax.plot([row["theory"]] * 2, [y - 0.24, y + 0.24], color="black", linewidth=1.4, zorder=1)
        style.errorbars(ax, [y], row, "slope", along="x", **look | {"markersize": 2.6, "markeredgewidth": 0.7})
    style.rows_of_names(ax, [names.of_solver(s) for s in solvers])
    ax.set(xlim=(0.5, 10.5), xlabel="fitted slope")
    style.ticks(ax.xaxis, range(2, 11, 2))
    ax.grid(axis="x", color="0.92", linewidth=0.5)
