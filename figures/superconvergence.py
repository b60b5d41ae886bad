"""Single-step errors against zeta and 1 - t, and their slopes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import style

TABLES = ("superconvergence", "superconvergence_slopes")
QUESTION = "Of what order is a single solver step into t = 1, and in which variable?"
Tables = Mapping[str, pd.DataFrame]
CURVES = ("euler", "midpoint", "heun", "rk4", "ddim")
VARIABLES = {"zeta": r"$\zeta_t$", "1 - t": r"$1-t$"}
LINEAR_VP_ZETA = 0.1  # up to here DDIM's error is quadratic in zeta
NEAR = 0.15  # a slope this close to theory agrees with it


def own_variable(solver: str) -> str:
    """Return the variable in which a solver steps; DDIM is Euler's method in zeta."""
    return "zeta" if solver == "ddim" or solver.endswith("_zeta") else "1 - t"


def answer(tables: Tables) -> str:
    """Say where measured slopes agree with theory, and what linear VP does."""
    slopes = tables["superconvergence_slopes"]
    kept = slopes[slopes["status"] == "ok"]
    own = kept[kept["variable"] == kept["solver"].map(own_variable)]
    near = (own["slope"] - own["theory"]).abs() <= NEAR
    exceed = own[own["theory"] > own["declared"] + 1]
    text = (
        f"In the variable that a solver steps in, {int(near.sum())} of {len(own)} slopes lie within {NEAR} of theory; "
        f"{len(exceed)} of them exceed the p + 1 of a method of order p: the error of a step in a variable that is odd "
        "in zeta is even, and midpoint gains an order on CondOT. "
    )
    for row in own[~near].sort_values("problem").itertuples():
        text += f"{row.solver} on {style.path_label(row.path)} ({row.problem}) has {row.slope:.2f} for {row.theory:g}. "
    return (
        f"{text}{_linear_vp(tables)}{_refused(slopes)}Products of DPhi with random directions are measured, at states "
        "with one x/alpha for all times; lines are medians, bands quartiles, dashes the theory below the window of the "
        "fit, dots the bound of the reference's error; the last row has slopes with 95 % intervals, and theory as bars."
    )


def _linear_vp(tables: Tables) -> str:
    """Say how DDIM's slope in 1 - t moves along linear VP, from slopes between neighbouring times."""
    table = tables["superconvergence"]
    rows = table[(table["path"] == "vp_linear") & (table["solver"] == "ddim") & (table["metric"] == "relative_error")]
    if rows.empty:
        return ""
    rows = rows[rows["problem"] == rows["problem"].iloc[0]].sort_values("zeta")
    rows = rows[rows["zeta"] <= LINEAR_VP_ZETA]
    h, value, zeta = (np.log(v.to_numpy(float)) for v in (1 - rows["t"], rows["value"], rows["zeta"]))
    local, in_zeta = np.diff(value) / np.diff(h), np.diff(value) / np.diff(zeta)
    return (
        f"On linear VP, DDIM's slope is {in_zeta.min():.2f} to {in_zeta.max():.2f} in zeta but climbs from "
        f"{local[0]:.2f} at 1 - t = {np.exp(h[0]):.0e} to {local.max():.2f} at {np.exp(h[1 + local.argmax()]):.2g} in "
        "1 - t: sigma goes from the square root of 1 - t to 1 - t itself, and slopes such as 1.6 are met on the way. "
    )


def _refused(slopes: pd.DataFrame) -> str:
    refused = slopes[slopes["status"] != "ok"]
    if refused.empty:
        return (
            "No combination failed: sigma' is infinite at t = 1 on linear VP, but the velocity needs sigma sigma' "
            "alone. "
        )
    listed = sorted({f"{r.solver} on {style.path_label(r.path)}" for r in refused.itertuples()})
    return f"{len(refused)} fits are missing ({', '.join(listed)}). "


def draw(tables: Tables) -> Figure:
    """Draw errors against zeta (first row) and 1 - t (second) and the slopes (third), one column per path."""
    style.apply()
    table, slopes = tables["superconvergence"], tables["superconvergence_slopes"]
    table = table[table["metric"] == "relative_error"].assign(**{"1 - t": 1 - table["t"]})
    problem = table["problem"].iloc[0]
    paths = list(dict.fromkeys(table["path"]))
    size = (style.TEXT_WIDTH, 5.9)
    figure, axes = plt.subplots(3, len(paths), figsize=size, squeeze=False, height_ratios=[1, 1, 1.15])
    for j, path in enumerate(paths):
        here = table[(table["path"] == path) & (table["problem"] == problem)]
        fits = slopes[(slopes["path"] == path) & (slopes["problem"] == problem) & (slopes["status"] == "ok")]
        for ax, variable in zip(axes[:, j], VARIABLES, strict=False):
            _errors(ax, here, fits[fits["variable"] == variable], variable)
        axes[0, j].set_title(style.path_label(path))
        _slopes(axes[2, j], slopes[(slopes["path"] == path) & (slopes["status"] == "ok")])
    for ax in axes[:2, 0]:
        ax.set_ylabel("relative error of DΦ")
    for ax in axes[:, 1:].ravel():
        ax.tick_params(labelleft=False)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    look: dict[str, Any] = {"color": "0.3", "linestyle": "", "markersize": 4}
    handles += [Line2D([], [], marker="o", **look), Line2D([], [], marker="o", markerfacecolor="white", **look)]
    labels += ["slope in ζ", "slope in 1 − t"]
    figure.legend(handles, labels, loc="outside lower center", ncols=7, columnspacing=1.1, handletextpad=0.4)
    return style.finish(figure, list(axes.ravel()))


def _errors(ax: Axes, rows: pd.DataFrame, fits: pd.DataFrame, variable: str) -> None:
    for solver in CURVES:
        group = rows[rows["solver"] == solver].sort_values(variable)
        look = style.method("end_to_end", solver) | {"markersize": 2.3, "linewidth": 0.9}
        if solver == "ddim":  # on CondOT it is Euler's method: open and larger, to be seen around its marks
            look |= {"markerfacecolor": "none", "markersize": 4.2, "linewidth": 0.6}
        ax.plot(group[variable], group["value"], label=solver, **look)
        ax.fill_between(group[variable], group["low"], group["high"], color=look["color"], alpha=0.15, linewidth=0)
    for fit in fits[fits["solver"].isin(CURVES)].itertuples():
        x = np.array([fit.h_min, fit.h_max])
        first = rows[(rows["solver"] == fit.solver) & np.isclose(rows[variable], x[0], rtol=1e-9)]["value"].iloc[0]
        ax.plot(x, 0.3 * first * (x / x[0]) ** float(fit.theory), **style.THEORY)
    ax.axhline(rows["reference_bound"].max(), color="0.7", linewidth=0.8, linestyle=":")
    ax.set(xscale="log", yscale="log", xlabel=VARIABLES[variable], ylim=(1e-15, 3))
    ax.minorticks_off()


def _slopes(ax: Axes, slopes: pd.DataFrame) -> None:
    solvers = list(dict.fromkeys(slopes.sort_values(["variable"])["solver"]))
    solvers.sort(key=lambda s: (s.endswith("_zeta"), s == "ddim"))
    problems = list(dict.fromkeys(slopes["problem"]))
    for row in slopes.itertuples():
        filled = row.variable == "zeta"
        colour = style.method("end_to_end", str(row.solver).removesuffix("_zeta"))["color"]
        shift = (problems.index(row.problem) - (len(problems) - 1) / 2) * 0.2
        y = solvers.index(row.solver) + (-0.2 if filled else 0.2) + shift
        marker = style.method("end_to_end", str(row.solver).removesuffix("_zeta"))["marker"]
        face = colour if filled else "white"
        half = [[row.slope - row.low], [row.high - row.slope]]
        ax.errorbar(row.slope, y, xerr=half, fmt=marker, color=colour, mfc=face, ms=3, mew=0.7, lw=0.7)
        ax.plot([row.theory] * 2, [y - 0.17, y + 0.17], color="0.35", linewidth=1.2, zorder=1)
    ax.set(
        yticks=range(len(solvers)),
        yticklabels=[s.replace("_zeta", " (ζ)") for s in solvers],
        ylim=(len(solvers) - 0.4, -0.6),
        xlim=(0.5, 10.5),
        xticks=range(1, 11),
        xlabel="fitted slope (95 %)",
    )
    ax.grid(axis="x", color="0.92", linewidth=0.5)
