"""Error against evaluations of an audited flow's lookahead, and the evaluations that a wanted error takes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("audit_frontier", "audit_best", "audit_facts")
QUESTION = "What does a good enough gradient cost on this flow?"
answer = style.Caption(
    "{subject!s}: a median relative error of {wanted:g} takes at most {most:.0f} evaluations.",
    style.choose(
        "reached",
        {
            "all": "It is reached at every time.",
            "some": "It is reached at {reached_times} of {times} times.",
            "none": "No gradient that was tried reaches a median relative error of {wanted:g}.",
        },
    ),
    "a, the least error with so many evaluations or fewer, over solvers, steps and horizons; b, the fewest evaluations "
    "that reach the wanted error; numbers are horizons s.",
    style.choose("reached", {"all": "", "some": "Grey bars: times at which none does.", "none": ""}),
)
CURVES = 4  # times drawn in the left panel, spread over the audit's


@style.figure()
def draw(tables: style.Tables) -> Figure:
    """Draw the frontier of error and evaluations at some times and, where any is enough, the evaluations needed."""
    frontier, best = tables["audit_frontier"], tables["audit_best"]
    reached = best[best["reached"]]
    figure, axes = style.panels(2 if len(reached) else 1, 2, 2.4)
    _frontiers(axes[0], frontier)
    if len(reached):
        _needed(axes[1], reached, best[~best["reached"]])
    return figure


def _frontiers(ax: Axes, frontier: pd.DataFrame) -> None:
    times = sorted(frontier["t"].unique())
    shown = np.unique(np.linspace(0, len(times) - 1, CURVES).round().astype(int))
    for i, t in enumerate(times[k] for k in shown):
        rows = only(frontier, t=t)
        ax.plot(rows["evaluations"], rows["value"], label=f"$t = {t:g}$", drawstyle="steps-post", **style.series(i))
    ax.axhline(frontier["wanted"].iloc[0], label="wanted", **style.BOUND)
    ax.set(yscale="log", xlabel="evaluations", ylabel="least relative error")
    style.doublings(ax.xaxis, frontier["evaluations"])
    ax.legend(loc="best")


def _needed(ax: Axes, reached: pd.DataFrame, missed: pd.DataFrame) -> None:
    for (estimator, solver), rows in style.groups(reached, "estimator", "solver"):
        look = style.method(estimator, solver) | {"linestyle": "none", "markersize": 5}
        label = names.of_solver(solver) if solver else names.method(estimator)
        ax.plot(rows["t"], rows["evaluations"], label=label, **look)
    for row in reached[reached["horizon"].notna()].itertuples():
        where: style.Look = {"textcoords": "offset points", "ha": "center", "fontsize": style.SMALL}
        ax.annotate(f"{row.horizon:.2g}", (row.t, row.evaluations), (0, 5), **where)
    for t in missed["t"]:
        ax.axvline(t, color="0.9", linewidth=6, zorder=0)
    largest = max(2, int(reached["evaluations"].max()))
    ax.set(yscale="log", xlabel="$t$", ylabel="evaluations for the\nwanted error", ylim=(0.8, 1.9 * largest))
    style.doublings(ax.yaxis, [1, largest])
    ax.legend(loc="best", title="number: horizon $s$")
