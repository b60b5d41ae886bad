"""The parts of a learned guidance gradient's error: learning, discretisation, arithmetic."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import looks, names

TABLES = tuple(f"learning_vs_discretisation{part}" for part in ("_summary", "_facts"))
QUESTION = "How much of a learned guidance gradient's error is learning, how much discretisation, how much arithmetic?"
answer = style.Caption(
    "Learning alone errs by {learning_first:.1%} at t = {first_t:g}.",
    "At t = {last_t:g} by {learning_last:.1%}.",
    "Discretisation is smaller from {below_low..below_high:.0f} Euler steps on.",
    "bfloat16 adds {bfloat16:.1g} (median), more than discretisation in {outweighs} of {gradients!p:gradient}.",
    "Parts are relative to the mixture's ideal gradient: learning, from the network's converged gradient; "
    "discretisation, from its steps (one Euler step is greedy); thin lines, steps of the exact field. Geometric means "
    "over {states!p:state}.",
    "Bars and the shaded band are 95% bootstrap intervals.",
)
LEARNING: style.Look = {"color": "black", "linewidth": 1.4}
ARITHMETIC = ("float32", "bfloat16")


@style.figure()
def draw(tables: style.Tables) -> Figure:
    """Draw one panel per time, the parts over steps, and one with the parts over time if there are several."""
    table = tables["learning_vs_discretisation_summary"].sort_values("t", kind="stable")
    shown = table[table["mean"] > 0]
    times = list(style.groups(shown, "t"))
    several = len(times) > 1
    figure, axes = style.panels(len(times) + several, 3 if several else 1, 2.0 if several else 2.6, 0.7)
    for ax, (t, rows) in zip(axes, times, strict=False):
        _over_steps(ax, rows)
        ax.set(title=f"$t = {t:g}$", yscale="log", ylim=(shown["low"].min() / 2, shown["high"].max() * 2))
    if several:
        _over_time(axes[-1], only(shown, estimator="greedy"))
    for ax in axes[::3]:
        ax.set_ylabel("relative to |g*|")
    style.shared_legend(figure, 3)
    return figure


def _over_steps(ax: Axes, rows: pd.DataFrame) -> None:
    learning = only(rows, part="learning").iloc[0]
    ax.axhline(learning["mean"], label="learning", **LEARNING)
    ax.axhspan(learning["low"], learning["high"], color="0.85", linewidth=0)
    for solver in sorted(set(rows["solver"].dropna())):
        own = only(rows, solver=[solver, None] if solver == "euler" else [solver])
        look, name = style.method("end_to_end", solver), names.of_solver(solver)
        _line(ax, only(own, part="discretisation"), label=f"discretisation, {name}", **look)
        thin = {"color": look["color"], "linewidth": 0.8, "linestyle": (0, (1, 1))}
        _line(ax, only(own, part="discretisation, exact field"), label=f"of the exact field, {name}", **thin)
    for name in ARITHMETIC:
        look = style.marked(*{"float32": ("black", "^"), "bfloat16": (looks.SKY, "v")}[name])
        _line(ax, only(rows, part=name, solver=["euler", None]), label=f"{name}, Euler", **look)
    ax.set_xlabel("steps")
    style.doublings(ax.xaxis, rows["steps"])


def _line(ax: Axes, rows: pd.DataFrame, **look: Any) -> None:
    if len(rows):
        rows = rows.sort_values("steps")
        style.errorbars(ax, rows["steps"].clip(lower=1), rows, "mean", **{"linestyle": "-"} | look)


def _over_time(ax: Axes, table: pd.DataFrame) -> None:
    greedy = style.method("greedy")
    parts = {
        "learning": ("learning", LEARNING),
        "discretisation": ("greedy's discretisation", greedy),
        "learning, same steps": ("greedy's learning", greedy | {"linestyle": (0, (4, 1.5)), "marker": "o"}),
    }
    for part, (label, look) in parts.items():
        rows = only(table, part=part)
        style.errorbars(ax, rows["t"], rows, "mean", label=label, **{"linestyle": "-"} | look)
    some = only(table, part=[*parts])
    ax.set(xlabel="time t of the state", yscale="log", ylim=(some["low"].min() / 1.3, some["high"].max() * 1.3))
    style.plain(ax.yaxis)
