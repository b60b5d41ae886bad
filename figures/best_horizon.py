"""The best lookahead horizon, measured and predicted from two terms."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import style

PARTS = ("fits", "predicted", "curves", "budgets")
TABLES = ("best_horizon", *(f"best_horizon_{part}" for part in PARTS))
QUESTION = "Can the best lookahead horizon be predicted from a few cheap measurements?"
Tables = Mapping[str, pd.DataFrame]
RULE = "interval"
FORMS = {"printed": "printed:\ns = 1", "interval": "B grows\nwith s", "bounded": "and A\nbounded"}
WITHIN = 1.05
KEYS = ["problem", "path", "solver"]
FLOOR = 2.0**-10  # below the horizon nearest to 1, where 1 itself is drawn
TICKS = {FLOOR: "end", 0.01: "0.01", 0.1: "0.1", 1.0: "1"}


def _mean(ratio: pd.Series) -> float:
    return float(np.exp(np.log(ratio).mean()))


def answer(tables: Tables) -> str:
    """Say how well each form fits, what its best horizons cost, and whether stopping short pays at equal cost."""
    found = tables["best_horizon_predicted"]
    factor = tables["best_horizon_fits"].groupby("form")["held_out_factor"].median()
    rule = found[found["form"] == RULE]
    few, many = rule[~rule["held_out"]], rule[rule["held_out"]]
    return (
        "As printed, A zeta_s^2 + B n^-p has its best horizon at 1 always, and is off by a factor "
        f"{factor['printed']:.2f} (median) on step counts that its fit has not seen. With B growing as (s - t)^(p+1), "
        f"as the error of solving to s does, it is {factor['interval']:.2f}; with zeta_s^2/(1 + zeta_s^2) for zeta_s^2 "
        f"besides, {factor['bounded']:.2f}. The second form, fitted on up to {int(few['steps'].max())} steps, predicts "
        f"horizons whose error is {_mean(few['regret']):.2f} times the least there (going to the end: "
        f"{_mean(few['regret_of_1']):.2f}) and {_mean(many['regret']):.2f} times on more steps "
        f"({_mean(many['regret_of_1']):.2f}); {(rule['regret'] <= WITHIN).mean():.0%} of its horizons cost at most 5 % "
        f"more than the best. {_budgets(tables['best_horizon_budgets'])}{_cosines(tables['best_horizon'])}Bands are "
        "quartiles over states, lines the fit, stars the predicted best; bars in b span the horizons within 5 % of the "
        "least error, bars in c are two standard errors of geometric means."
    )


def _budgets(budgets: pd.DataFrame) -> str:
    """Say how often, and by how much, a horizon short of 1 beats the end at equal cost."""
    parts = [
        f"{int((rows['ratio'] > 1).sum())} of {len(rows)} budgets with {solver} (error at the end "
        f"{_mean(rows['ratio']):.2f} times as large; the fit advises it for {int((rows['predicted'] < 1).sum())})"
        for solver, rows in budgets.groupby("solver")
    ]
    return f"At equal cost in evaluations, stopping short wins for {' and '.join(parts)}. "


def _cosines(table: pd.DataFrame) -> str:
    """Say whether the two errors point the same way."""
    rows = table[table["metric"] == "error_cosine"]
    parts = [f"{values.median():.2f} with {solver}" for solver, values in rows.groupby("solver")["value"]]
    return (
        f"The two errors are vectors: the cosine between them is {' and '.join(parts)} (medians), and where they "
        "oppose each other a sum of sizes misses what they cancel. "
    )


def draw(tables: Tables) -> Figure:
    """Draw one problem's errors with the fit, predicted against measured horizons, and the regret of each form."""
    style.apply()
    figure, axes = plt.subplots(1, 3, figsize=(style.TEXT_WIDTH, 2.6), width_ratios=[1.1, 1, 1])
    found = tables["best_horizon_predicted"]
    _slice(axes[0], tables)
    _horizons(axes[1], found[found["form"] == RULE])
    _regrets(axes[2], found)
    handles, labels = axes[0].get_legend_handles_labels()
    for solver in dict.fromkeys(found["solver"]):
        look = style.method("lookahead", solver) | {"linestyle": "", "markersize": 4}
        handles += [Line2D([], [], **look | {"markerfacecolor": look["color"]}), Line2D([], [], **look)]
        labels += [f"{solver}, n fitted", f"{solver}, n held out"]
    figure.legend(handles, labels, loc="outside lower center", ncols=4, columnspacing=1.2, handletextpad=0.5)
    return style.finish(figure, list(axes))


def _slice(ax: Axes, tables: Tables) -> None:
    """Draw the last problem's Euler errors against 1 - f, measured and fitted; stars are the predicted best."""
    table, solver = tables["best_horizon"], "euler"
    rows = table[(table["path"] == table["path"].iloc[0]) & (table["solver"] == solver)]
    key = rows[KEYS].iloc[-1]
    rows, chosen, curves = (
        _of(t, key) for t in (table, tables["best_horizon_predicted"], tables["best_horizon_curves"])
    )
    chosen = chosen[chosen["form"] == RULE].set_index("steps")
    curves = curves[curves["form"] == RULE]
    for i, n in enumerate(n for n in dict.fromkeys(curves["steps"]) if math.log2(n) % 2 == 0):
        group = rows[(rows["steps"] == n) & (rows["horizon"] > 0) & (rows["metric"] == "relative_error")]
        group, model = group.sort_values("horizon"), curves[curves["steps"] == n].sort_values("horizon")
        x, look = _distance(group["horizon"]), style.series(i) | {"linestyle": "", "markersize": 2.5}
        ax.plot(x, group["value"], label=f"n = {n}", **look)
        ax.fill_between(x, group["low"], group["high"], color=look["color"], alpha=0.12, linewidth=0)
        ax.plot(_distance(model["horizon"]), model["model"], color=look["color"], linewidth=0.9)
        best = group[group["horizon"] == chosen.loc[n, "predicted"]]
        star = {"ms": 8, "color": look["color"], "mec": "black", "mew": 0.5, "zorder": 5}
        ax.plot(_distance(best["horizon"]), best["value"], "*", **star)
    ax.set(xscale="log", yscale="log", xlabel="distance to the end, 1 − f", ylabel="relative error")
    ax.set_xticks(list(TICKS), list(TICKS.values()))
    ax.minorticks_off()
    ax.set_title(f"{key['problem']}, {key['solver']}", fontsize=7, loc="right")


def _distance(horizon: pd.Series | float) -> pd.Series | float:
    """Return 1 - horizon, with the end itself at the floor."""
    return np.maximum(1 - horizon, FLOOR)


def _of(table: pd.DataFrame, key: pd.Series) -> pd.DataFrame:
    return table[(table[KEYS] == key[KEYS]).all(axis=1)]


def _horizons(ax: Axes, found: pd.DataFrame) -> None:
    for row in found.itertuples():
        look = style.method("lookahead", str(row.solver))
        face = "white" if row.held_out else look["color"]
        x, y, near, far = map(_distance, (row.measured, row.predicted, row.good_high, row.good_low))
        ax.plot([near, far], [y, y], color=look["color"], linewidth=0.5, alpha=0.5, zorder=1)
        ax.plot(x, y, look["marker"], color=look["color"], mfc=face, ms=3, mew=0.6, alpha=0.8)
    ax.plot([FLOOR, 1], [FLOOR, 1], **style.THEORY)
    ax.set(xscale="log", yscale="log", xlabel="measured best 1 − f", ylabel="predicted best 1 − f")
    ax.set_xticks(list(TICKS), list(TICKS.values()))
    ax.set_yticks(list(TICKS), list(TICKS.values()))
    ax.minorticks_off()


def _regrets(ax: Axes, found: pd.DataFrame) -> None:
    solvers = list(dict.fromkeys(found["solver"]))
    for (form, solver, held_out), rows in found.groupby(["form", "solver", "held_out"]):
        look = style.method("lookahead", str(solver))
        logs = np.log(rows["regret"])
        half = 2 * logs.std() / np.sqrt(len(logs)) if len(logs) > 1 else 0.0
        low, middle, high = np.exp(logs.mean() + half * np.array([-1, 0, 1]))
        x = list(FORMS).index(str(form)) + (2 * solvers.index(solver) + bool(held_out) - 1.5) * 0.18
        face = "white" if held_out else look["color"]
        bars = [[middle - low], [high - middle]]
        ax.errorbar(x, middle, yerr=bars, fmt=look["marker"], color=look["color"], mfc=face, ms=4, lw=0.8)
    ax.axhline(1, **style.THEORY)
    ax.set_xticks(range(len(FORMS)), list(FORMS.values()), fontsize=7)
    ax.set(ylabel="error / least error", xlim=(-0.5, len(FORMS) - 0.5))
