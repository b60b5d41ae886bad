"""Error against evaluations of an audited flow's lookahead, and the evaluations that a wanted error takes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from figures import style

TABLES = ("audit", "audit_lookahead", "audit_best")
QUESTION = "What does a good enough gradient cost on this flow?"
CURVES = 4  # times drawn in the left panel, spread over the audit's
Tables = Mapping[str, pd.DataFrame]


def answer(tables: Tables) -> str:
    """Say what the wanted error costs at most and where it is not reached."""
    best = tables["audit_best"]
    reached, wanted = best[best["reached"]], best["wanted"].iloc[0]
    cost = f"at most {reached['evaluations'].max():.0f} evaluations at {len(reached)} of" if len(reached) else "none of"
    return (
        f"{tables['audit']['problem'].iloc[0]}: a median relative error of {wanted:g} takes {cost} {len(best)} times. "
        "Left, the least error for that many evaluations or fewer, over solvers, steps and horizons. Right, the fewest "
        "evaluations that reach the wanted error, numbers the horizon s; crosses: not reached by any tried."
    )


def draw(tables: Tables) -> Figure:
    """Draw the frontier of error and evaluations at some times, and the evaluations needed at every time."""
    style.apply()
    figure, axes = plt.subplots(1, 2, figsize=(style.TEXT_WIDTH, 2.6))
    greedy = tables["audit"]
    tried = pd.concat([greedy[greedy["metric"] == "relative_error"], tables["audit_lookahead"]])
    _frontiers(axes[0], tried)
    _needed(axes[1], tables["audit_best"])
    axes[0].legend(loc="best")
    axes[1].legend(loc="best", title="number: horizon $s$")
    return style.finish(figure, list(axes))


def _frontiers(ax: Axes, tried: pd.DataFrame) -> None:
    times = sorted(tried["t"].unique())
    kept = np.unique(np.linspace(0, len(times) - 1, CURVES).round().astype(int))
    for i, t in enumerate(times[k] for k in kept):
        least = tried[tried["t"] == t].groupby("evaluations")["value"].min().cummin()
        ax.plot(least.index, least, label=f"$t = {t:g}$", drawstyle="steps-post", **style.series(i))
    ax.axhline(tried["wanted"].iloc[0], label="wanted", **style.THEORY)
    ax.set(xscale="log", yscale="log", xlabel="evaluations", ylabel="least relative error")
    _powers_of_two(ax.xaxis, int(tried["evaluations"].max()))


def _powers_of_two(axis, largest: int) -> None:  # type: ignore[no-untyped-def]
    ticks = [2**i for i in range(largest.bit_length())]
    axis.set_ticks(ticks, [str(n) for n in ticks])
    axis.set_minor_locator(NullLocator())


def _needed(ax: Axes, best: pd.DataFrame) -> None:
    reached, missed = best[best["reached"]], best[~best["reached"]]
    for (estimator, solver), rows in reached.groupby(["estimator", "solver"], dropna=False, sort=False):
        solver = None if pd.isna(solver) else solver
        look = style.method(estimator, solver) | {"linestyle": "none", "markersize": 5}
        ax.plot(rows["t"], rows["evaluations"], label=solver or "greedy", **look)
    for row in reached[reached["horizon"].notna()].itertuples():
        ax.annotate(
            f"{row.horizon:.2g}", (row.t, row.evaluations), (0, 5), textcoords="offset points", ha="center", fontsize=7
        )
    largest = int(reached["evaluations"].max()) if len(reached) else 1
    if len(missed):
        ax.plot(missed["t"], [1.6 * largest] * len(missed), "x", color="black", label="not reached")
    ax.set(yscale="log", xlabel="$t$", ylabel="evaluations for the wanted error", ylim=(0.8, 2.4 * largest))
    _powers_of_two(ax.yaxis, 2 * largest)
