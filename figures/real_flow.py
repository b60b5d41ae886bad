"""The learned flow beside the analytic ones: greedy over zeta, its leading term, solvers over steps, lookahead."""

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

TABLES = ("real_flow", "real_flow_fits", "real_claims", "real_claims_ledger", "greedy_error", "convergence")
QUESTION = "Does what holds on analytic flows hold on a trained network of digits?"
Tables = Mapping[str, pd.DataFrame]
PLAIN: dict[str, Any] = {"color": "0.75", "linewidth": 0.7, "zorder": 0}
MARKERS = "osD^v"
WITHIN = 0.1  # of greedy's error: then its leading term explains it


def answer(tables: Tables) -> str:
    """Give the slopes with their intervals, the worst cosine, what the leading term leaves, and the best horizons."""
    table, fits = tables["real_flow"], tables["real_flow_fits"].set_index("name")
    first = table.iloc[0]
    return (
        f"On the network greedy's error falls as zeta to the power {_slope(fits, 'greedy')} at the least zetas (theory "
        f"2), but to the power {_slope(fits, 'greedy, practical')} at those of a sampler's last steps: digits have "
        "pixels that hardly vary, and zeta is small only against their deviation. End-to-end's error falls "
        f"as 1/n to the power {_slope(fits, 'euler')} with Euler, {_slope(fits, 'midpoint')} with midpoint and "
        f"{_slope(fits, 'rk4')} with RK4. {_late(table)} {_horizons(table)} {_claims(tables)} Medians and quartiles "
        f"over {first['samples']} digits; the truth is a fine solve in {first['truth_dtype']} "
        f"that half the steps change by at most {table['reference_bound'].max():.1g} (dotted). Grey and pale lines are "
        "the analytic flows, dashed ones the slopes of theory; filled markers in d are the best horizons."
    )


def _late(table: pd.DataFrame) -> str:
    """Give greedy's worst cosine, what the leading term misses at the smallest zeta, and how far it reaches."""
    cosine = _greedy(table, "one_minus_cosine")
    worst = cosine.loc[cosine["value"].idxmax()]
    left = _greedy(table, "leading_term_error").sort_values("zeta")
    good = left[left["value"] <= WITHIN]["zeta"]
    reach = f", and by less than {WITHIN:.0%} up to zeta = {good.max():.2g}" if len(good) else ""
    return (
        f"Greedy's cosine with the ideal gradient is {1 - worst['value']:.3f} at worst, at t = {worst['t']:.2g}. The "
        f"leading term misses greedy's error by {left.iloc[0]['value']:.1%} of it at zeta = "
        f"{left.iloc[0]['zeta']:.2g}{reach}."
    )


def _greedy(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    return table[(table["estimator"] == "greedy") & (table["metric"] == metric)].drop_duplicates("t")


def _slope(fits: pd.DataFrame, name: str) -> str:
    """Return a fitted slope with its interval as text."""
    if fits.loc[name, "status"] != "ok":
        return "(too few points above the truth's own error)"
    return f"{fits.loc[name, 'slope']:.2f} [{fits.loc[name, 'low']:.2f}, {fits.loc[name, 'high']:.2f}]"


def _ahead(table: pd.DataFrame) -> pd.DataFrame:
    """Return the errors over steps and horizons, from greedy (0) to the end (1), with Euler's and midpoint's steps."""
    rows = table[table["metric"] == "relative_error"]
    ahead = rows[rows["estimator"] == "lookahead"]
    ends = rows[(rows["estimator"] == "end_to_end") & rows["solver"].isin(ahead["solver"])].assign(horizon=1.0)
    here = rows[(rows["estimator"] == "greedy") & (rows["t"] == ends["t"].iloc[0])].assign(horizon=0.0)
    grid = ahead[["solver", "steps"]].drop_duplicates()
    here = grid.merge(here.drop(columns=["solver", "steps"]), how="cross")
    return pd.concat([here, ahead, ends.merge(grid)], ignore_index=True)


def _horizons(table: pd.DataFrame) -> str:
    """Say for how many step counts a horizon short of the end is best."""
    ahead = _ahead(table)
    best = ahead.loc[ahead.groupby(["solver", "steps"])["value"].idxmin()]
    short = best[best["horizon"] < 1]
    listed = ", ".join(f"{r.solver} {r.steps:.0f}: {r.horizon:g}" for r in short.itertuples())
    return (
        f"Looking ahead from t = {ahead['t'].iloc[0]:g}, a horizon short of the end is best for {len(short)} of "
        f"{len(best)} step counts{f' ({listed})' if listed else ''}."
    )


def _claims(tables: Tables) -> str:
    """Count the verdicts of the claims on the network."""
    ledger = tables["real_claims_ledger"]
    listed = [f"{', '.join(rows['id'])} {verdict}" for verdict, rows in ledger.groupby("verdict")]
    return f"Of {len(ledger)} claims that need no closed form, measured on the network: {'; '.join(listed)}."


def draw(tables: Tables) -> Figure:
    """Draw error over zeta, what cosine and leading term leave, error over steps, and error over the horizon."""
    style.apply()
    figure, axes = plt.subplots(2, 2, figsize=(style.TEXT_WIDTH, 4.6))
    a, b, c, d = np.ravel(axes)
    _errors(a, tables)
    _left(b, tables["real_flow"])
    _steps(c, tables)
    _lookahead(d, tables["real_flow"])
    return style.finish(figure, [a, b, c, d])


def _band(ax: Axes, x: pd.Series, rows: pd.DataFrame, label: str, **look: Any) -> None:
    ax.plot(x, rows["value"], label=label, **look)
    ax.fill_between(x, rows["low"], rows["high"], color=look["color"], alpha=0.15, linewidth=0)


def _errors(ax: Axes, tables: Tables) -> None:
    analytic = tables["greedy_error"]
    analytic = analytic[(analytic["metric"] == "relative_error") & (analytic["path"] == "condot")]
    rows = _greedy(tables["real_flow"], "relative_error").sort_values("zeta")
    low = rows["zeta"].min() / 2
    for i, (_, group) in enumerate(analytic[analytic["zeta"] >= low].groupby("problem")):
        group = group.sort_values("zeta")
        ax.plot(group["zeta"], group["value"], label="" if i else "analytic flows", **PLAIN)
    _band(ax, rows["zeta"], rows, "learned flow", **style.method("greedy"))
    ax.plot(rows["zeta"], rows["reference_bound"], color="0.5", linestyle=":", linewidth=0.8)
    first = rows.iloc[0]
    span = np.array([first["zeta"], min(20 * first["zeta"], rows["zeta"].max())])
    style.power_law(ax, span, 0.4 * first["value"] / first["zeta"] ** 2, 2)
    ax.set(xscale="log", yscale="log", xlabel=r"$\zeta_t$", ylabel="greedy's relative error")
    ax.legend(loc="lower right")


def _left(ax: Axes, table: pd.DataFrame) -> None:
    for metric, label, look in (
        ("one_minus_cosine", "1 − cosine of greedy", style.method("greedy")),
        ("leading_term_error", "what the leading term misses\nof greedy's error", style.series(0)),
    ):
        rows = _greedy(table, metric).sort_values("zeta")
        _band(ax, rows["zeta"], rows, label, **look)
    ax.axhline(1, **style.THEORY)
    ax.set(xscale="log", yscale="log", xlabel=r"$\zeta_t$", ylabel="relative size")
    ax.legend(loc="lower right")


def _steps(ax: Axes, tables: Tables) -> None:
    table = tables["real_flow"]
    rows = table[(table["estimator"] == "end_to_end") & (table["metric"] == "relative_error")]
    analytic = tables["convergence"]
    analytic = analytic[(analytic["metric"] == "relative_error") & (analytic["path"] == "condot")]
    for (_, solver), group in analytic[analytic["steps"] <= rows["steps"].max()].groupby(["problem", "solver"]):
        if solver in set(rows["solver"]):
            group = group.sort_values("steps")
            ax.plot(group["steps"], group["value"], **PLAIN | {"color": style.method("end_to_end", solver)["color"]})
            ax.lines[-1].set_alpha(0.35)
    for solver, group in rows.groupby("solver"):
        group = group.sort_values("steps")
        _band(ax, group["steps"], group, str(solver), **style.method("end_to_end", str(solver)))
    fits = tables["real_flow_fits"].set_index("name")
    for solver, group in rows.groupby("solver"):
        last = group.sort_values("steps").iloc[-1]
        steps = np.array([max(last["steps"] / 4, 1), last["steps"]])
        ax.plot(steps, 0.5 * last["value"] * (steps / steps[-1]) ** -fits.loc[solver, "theory"], **style.THEORY)
    ax.axhline(rows["reference_bound"].max(), color="0.5", linestyle=":", linewidth=0.8)
    ax.set(yscale="log", xlabel=f"steps from t = {rows['t'].iloc[0]:g} to 1", ylabel="end-to-end's relative error")
    ax.set_xscale("log", base=2)
    ax.legend(loc="lower left")


def _lookahead(ax: Axes, table: pd.DataFrame) -> None:
    ahead = _ahead(table)
    counts = sorted(ahead["steps"].unique())
    for (solver, steps), rows in ahead.groupby(["solver", "steps"]):
        rows = rows.sort_values("horizon")
        look = style.method("lookahead", str(solver)) | {"marker": MARKERS[counts.index(steps) % 5]}
        ax.plot(rows["horizon"], rows["value"], **look)
        best = rows.loc[rows["value"].idxmin()]
        ax.plot(best["horizon"], best["value"], **look | {"markerfacecolor": look["color"]})
    handles = [Line2D([], [], color="0.3", marker=MARKERS[i % 5], ls="", mfc="white") for i in range(len(counts))]
    ax.legend(handles, [f"{n:.0f}" for n in counts], title="steps", loc="lower left")
    ax.set(yscale="log", xlabel="horizon (fraction of 1 − t)", ylabel="lookahead's relative error")
