"""The best lookahead horizon, measured and predicted from two terms."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

PARTS = ("predicted", "curves", "regrets", "facts")
TABLES = ("best_horizon", *(f"best_horizon_{part}" for part in PARTS))
QUESTION = "Can the best lookahead horizon be predicted from a few cheap measurements?"
answer = style.Caption(
    "As printed, A ζ² + B/nᵖ misses unseen errors by a factor {printed:.2f}; with a growing B by {interval:.2f}.",
    "The latter's horizons cost {few:.2f} times the least error on fitted and {many:.2f} on unseen step counts; the "
    "end {few_end:.2f} and {many_end:.2f}.",
    "At equal cost stopping short wins {wins} of {budgets} budgets.",
    "Bands: quartiles; lines: fits; stars: predictions; bars: horizons within 5% (b), two standard errors (c).",
)
RULE = "interval"
FORMS = {"printed": "as\nprinted", "interval": "B\ngrows", "bounded": "B grows,\nA is\nbounded"}
FLOOR = 2.0**-10  # below the distance of the horizon nearest to 1; the end itself is drawn here
TICKS = {FLOOR: "0", 0.01: "0.01", 0.1: "0.1", 1.0: "1"}


@style.figure(legend=4)
def draw(tables: style.Tables) -> Figure:
    """Draw one problem's errors with the fit, predicted against measured horizons, and the regret of each form."""
    figure, axes = style.panels(3, 3, 2.2, 0.5, width_ratios=[1.1, 1, 0.9])
    predicted = only(tables["best_horizon_predicted"], form=RULE)
    _slice(axes[0], tables["best_horizon"], predicted, only(tables["best_horizon_curves"], form=RULE))
    _horizons(axes[1], predicted)
    _regrets(axes[2], tables["best_horizon_regrets"])
    return figure


def _slice(ax: Axes, errors: pd.DataFrame, predicted: pd.DataFrame, curves: pd.DataFrame) -> None:
    """Draw the last problem's Euler errors against the distance to the end, with the fit and its best horizons."""
    first = only(errors, path=errors["path"].iloc[0], solver="euler")
    key = first[["problem", "path", "solver"]].iloc[-1].to_dict()
    errors = only(errors, metric="relative_error", **key)
    errors = _with_distance(errors[errors["fraction"] > 0])
    curves, best = (_with_distance(only(t, **key)) for t in (curves, predicted.assign(fraction=predicted["predicted"])))
    counts = [n for n in style.values(curves, "steps") if math.log2(n) % 2 == 0]
    for i, n in enumerate(counts):
        look, rows = style.series(i + 3), only(errors, steps=n)
        style.band(ax, rows, "distance", label=f"n = {n}", **look | {"linestyle": "none", "markersize": 2.5})
        fit = only(curves, steps=n).sort_values("distance")
        ax.plot(fit["distance"], fit["model"], color=look["color"], linewidth=0.9)
        chosen = only(rows, fraction=float(only(best, steps=n)["fraction"].iloc[0]))
        star: style.Look = {"markersize": 8, "markeredgecolor": "black", "markeredgewidth": 0.5, "zorder": 5.0}
        ax.plot(chosen["distance"], chosen["value"], "*", color=look["color"], **star)
    ax.set(xlabel="1 − fraction of the way", ylabel="relative error", yscale="log")
    _distances(ax)
    ax.set_title(f"{names.of('problems', key['problem'])}, {names.of_solver(key['solver'])}")


def _with_distance(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(distance=np.maximum(1 - table["fraction"], FLOOR))


def _distances(ax: Axes, both: bool = False) -> None:
    ax.set_xscale("log")
    style.ticks(ax.xaxis, list(TICKS), list(TICKS.values()))
    if both:
        ax.set_yscale("log")
        style.ticks(ax.yaxis, list(TICKS), list(TICKS.values()))


def _horizons(ax: Axes, predicted: pd.DataFrame) -> None:
    for (solver, unseen), rows in style.groups(predicted, "solver", "held_out"):
        look = style.method("lookahead" if unseen else "end_to_end", solver) | {"alpha": 0.8, "linestyle": "none"}
        columns = ("measured", "predicted", "good_high", "good_low")
        x, y, near, far = (np.maximum(1 - rows[c], FLOOR) for c in columns)
        ax.hlines(y, near, far, color=look["color"], linewidth=0.5, alpha=0.5, zorder=1)
        ax.plot(x, y, label=names.of_solver(solver) + ", unseen" * bool(unseen), **look)
    ax.plot([FLOOR, 1], [FLOOR, 1], **style.THEORY)
    ax.set(xlabel="measured best 1 − fraction", ylabel="predicted best 1 − fraction")
    _distances(ax, both=True)


def _regrets(ax: Axes, regrets: pd.DataFrame) -> None:
    solvers = style.values(regrets, "solver")
    for row in regrets.to_dict("records"):
        unseen = bool(row["held_out"])
        look = style.method("lookahead" if unseen else "end_to_end", row["solver"]) | {"markersize": 4}
        x = list(FORMS).index(row["form"]) + (2 * solvers.index(row["solver"]) + unseen - 1.5) * 0.18
        style.errorbars(ax, [x], row, "mean", **look)
    ax.axhline(1, **style.THEORY)
    style.ticks(ax.xaxis, range(len(FORMS)), list(FORMS.values()))
    ax.set(ylabel="error / least error", xlim=(-0.5, len(FORMS) - 0.5))
