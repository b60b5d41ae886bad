"""The learned flow beside the analytic ones: greedy over zeta, its leading term, solvers over steps, lookahead."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

PARTS = ("fits", "ahead", "facts")
TABLES = (
    "real_flow",
    *(f"real_flow_{part}" for part in PARTS),
    "real_claims",
    "real_claims_facts",
    "greedy_error",
    "convergence",
)
QUESTION = "Does what holds on analytic flows hold on a network of digits?"
answer = style.Caption(
    "Greedy's error falls as ζ to the power {greedy:.2f} at the least ζ (theory: 2).",
    "At a sampler's last steps the power is {practical:.2f}.",
    "End-to-end's power of 1/n is {euler:.2f} (Euler), {midpoint:.2f} (midpoint), {rk4:.2f} (RK4).",
    "The leading term misses {left:.1%} of greedy's error at ζ = {left_zeta:.2g}.",
    "For {short} of {counts} step counts a shorter horizon is best (d).",
    "{claims_hold} of {claims} claims hold.",
    "Medians, quartiles, {samples!p:digit}; pale: analytic flows; dashes: theory; dots: reference's error.",
)
PLAIN: dict[str, Any] = {"color": "0.75", "linewidth": 0.7, "zorder": 0}


@style.figure(legend=4)
def draw(tables: style.Tables) -> Figure:
    """Draw greedy's error over zeta, its cosine and leading term, error over steps, and error over the horizon."""
    figure, (a, b, c, d) = style.panels(4, 2, 2.0, 0.6)
    table = tables["real_flow"]
    greedy = only(table, estimator="greedy").drop_duplicates(["t", "metric"])
    _errors(a, only(greedy, metric="relative_error"), _analytic(tables["greedy_error"]))
    _left(b, greedy)
    _steps(c, only(table, estimator="end_to_end", metric="relative_error"), tables)
    _lookahead(d, tables["real_flow_ahead"])
    return figure


def _analytic(table: pd.DataFrame) -> pd.DataFrame:
    return only(table, metric="relative_error", path="condot")


def _errors(ax: Axes, rows: pd.DataFrame, analytic: pd.DataFrame) -> None:
    least = rows["zeta"].min()
    for i, (_, group) in enumerate(style.groups(analytic[analytic["zeta"] >= least / 2], "problem")):
        group = group.sort_values("zeta")
        ax.plot(group["zeta"], group["value"], label="" if i else "analytic flows", **PLAIN)
    style.band(ax, rows, "zeta", label="learned flow, greedy", **style.method("greedy"))
    ax.plot(rows["zeta"], rows["reference_bound"], **style.BOUND)
    level = 0.1 * only(rows, zeta=least)["value"].iloc[0] / least**2
    style.power_law(ax, [least, min(20 * least, rows["zeta"].max())], level, 2)
    ax.set(xscale="log", yscale="log", xlabel=r"$\zeta_t$", ylabel="greedy's relative error")


def _left(ax: Axes, greedy: pd.DataFrame) -> None:
    cosine, left = (only(greedy, metric=metric) for metric in ("one_minus_cosine", "leading_term_error"))
    style.band(ax, cosine, "zeta", label="1 − cosine of greedy", **style.method("greedy") | {"linestyle": "--"})
    style.band(ax, left, "zeta", label="missed by leading term", **style.marked("0.3", "P"))
    ax.axhline(1, **style.THEORY)
    ax.set(xscale="log", yscale="log", xlabel=r"$\zeta_t$", ylabel="relative size")


def _steps(ax: Axes, rows: pd.DataFrame, tables: style.Tables) -> None:
    analytic = _analytic(tables["convergence"])
    analytic = only(analytic[analytic["steps"] <= rows["steps"].max()], solver=style.values(rows, "solver"))
    for (_, solver), group in style.groups(analytic, "problem", "solver"):
        group, colour = group.sort_values("steps"), style.method("end_to_end", solver)["color"]
        ax.plot(group["steps"], group["value"], alpha=0.35, **PLAIN | {"color": colour})
    for solver, group in style.groups(rows, "solver"):
        group = group.sort_values("steps")
        style.band(ax, group, "steps", label=names.of_solver(solver), **style.method("end_to_end", solver))
        order = only(tables["real_flow_fits"], name=solver)["theory"].iloc[0]
        n, last = group["steps"].iloc[-1], group["value"].iloc[-1]
        style.power_law(ax, [max(n / 2, 1), n], 0.5 * last * n**order, -order, label=False)
    ax.axhline(rows["reference_bound"].max(), **style.BOUND)
    low = min(group["value"].min() for _, group in style.groups(rows, "solver"))
    ax.set(yscale="log", xlabel=f"steps from t = {rows['t'].iloc[0]:.2g} to 1", ylabel="end-to-end's relative error")
    ax.set_ylim(low / 30, 3 * max(rows["high"].max(), 1))
    style.doublings(ax.xaxis, rows["steps"])


def _lookahead(ax: Axes, ahead: pd.DataFrame) -> None:
    for (solver, steps), rows in style.groups(ahead.sort_values("fraction"), "solver", "steps"):
        ax.plot(rows["fraction"], rows["value"], **style.method("lookahead", solver, steps))
        best = rows[rows["best"]]
        ax.plot(best["fraction"], best["value"], **style.method("end_to_end", solver, steps) | {"markersize": 5})
    for n in sorted(ahead["steps"].unique()):
        look = style.hollow(style.stepped(style.marked("0.3", "s"), n))
        ax.plot([], [], label=f"{n:.0f} step{'s' * bool(n > 1)}", **look)
    ax.set(yscale="log", xlabel="horizon (fraction of 1 − t)", ylabel="lookahead's relative error")
