"""Distance of guided samples to the exact posterior against compute."""

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

TABLES = ("outcome", "outcome_summary", "outcome_paired", "outcome_windows")
QUESTION = "How near to the exact posterior do guided samplers come, and does a dearer gradient pay?"
Tables = Mapping[str, pd.DataFrame]
METRICS = {"energy_distance": "energy distance", "sliced_wasserstein": "sliced Wasserstein-2"}
DIALS: dict[str, Any] = {"likelihood": "-", "dps": (0, (1, 1))}
RULES = {"likelihood": "likelihood steps", "dps": "DPS steps"}
LINEAR = 0.1  # below it the axis of the energy distance, which may be negative, is linear
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "unguided": ("unguided", {"color": style.GREY, "marker": "X"}),
    "oracle_ode": ("oracle ODE", {"color": style.BROWN, "marker": "v"}),
    "oracle_ode_more": ("oracle ODE, 64 steps", {"color": style.BROWN, "marker": "v", "mfc": "white"}),
    "oracle_sde": ("oracle SDE", {"color": style.BROWN, "marker": "<"}),
    "d_flow": ("D-Flow", {"color": style.PURPLE, "marker": "D"}),
    "flowgrad": ("FlowGrad", {"color": style.GREEN, "marker": "^"}),
}
DISTANCE = "energy_distance"


def at_main_noise(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the noise level at which all methods were run."""
    return table[table["noise"] == table.groupby("noise")["estimator"].nunique().idxmax()]


def means(table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean energy distance by (operator, noise) and method."""
    rows = table[table["metric"] == DISTANCE]
    return rows.pivot_table(index=["operator", "noise"], columns="estimator", values="mean")


def answer(tables: Tables) -> str:
    """Say how much of the way to the posterior greedy goes, where it fails, and what the dial changes."""
    table = tables["outcome_summary"]
    main = at_main_noise(table)
    found = means(table)
    closed = (found["unguided"] - found["likelihood:greedy"]) / (found["unguided"] - found["exact"])
    best, worst = closed.idxmax(), closed.idxmin()
    return (
        f"Greedy with likelihood steps closes {closed.min():.0%} ({_place(worst)}) to {closed.max():.0%} "
        f"({_place(best)}) of the energy distance between unguided samples and the posterior; {_floor(table)}. "
        f"{_dial(tables['outcome_paired'])}{_winners(main)} {_windows(tables['outcome_windows'])} Means over "
        f"{main['measurements'].max()} measurements of images drawn from the mixture, {main['samples'].max()} samples "
        f"each, noise {main['noise'].iloc[0]:g}; bars are 95 % bootstrap intervals, the dashed line two independent "
        f"exact sets. {_failures(table)}"
    )


def _place(index: Any) -> str:
    operator, noise = index
    return f"{operator.replace('_', ' ')}, noise {noise:g}"


def _floor(table: pd.DataFrame) -> str:
    """Say where greedy's distance cannot be told from zero, and where it is largest beside the oracle's."""
    rows = table[table["metric"] == DISTANCE].set_index(["operator", "noise", "estimator"])
    greedy = rows.xs("likelihood:greedy", level="estimator")
    oracle = rows.xs("oracle_ode", level="estimator")["mean"]
    enough = (greedy["low"] <= 0).sum()
    return (
        f"it reaches the posterior, to within its interval, in {enough} of {len(greedy)} cases, and is left at "
        f"{greedy['mean'].min():.2f} to {greedy['mean'].max():.2f} where the oracle ODE is left at {oracle.min():.3f} "
        f"to {oracle.max():.3f} with fewer evaluations"
    )


def _dial(paired: pd.DataFrame) -> str:
    """Say on how many operators each further rung is better or worse than greedy, in pairs."""
    rows = paired[(paired["metric"] == DISTANCE) & (paired["family"] == "likelihood")]
    rows = rows[~rows["estimator"].str.contains("greedy")]
    if rows.empty:
        return ""
    better, worse = int((rows["high"] < 0).sum()), int((rows["low"] > 0).sum())
    return (
        f"Of {len(rows)} paired comparisons of a further rung with greedy, likelihood steps, {better} are better and "
        f"{worse} worse with an interval that leaves zero out: a better gradient of the loss at the flow's end is not "
        "a better score of p(y | x_t), which is what the posterior needs. "
    )


def _winners(main: pd.DataFrame) -> str:
    """Name the best method that is no oracle, for each operator."""
    rows = main[(main["metric"] == DISTANCE) & ~main["family"].isin(["exact", "oracle"])]
    best = rows.loc[rows.groupby("operator", sort=False)["mean"].idxmin()]
    parts = [
        f"{r.operator.replace('_', ' ')}: {r.estimator.replace('_', ' ').replace(':', ' ')}, {r.mean:.2f} "
        f"({r.low:.2f} to {r.high:.2f})"
        for r in best.itertuples()
    ]
    return f"Best without the oracle's score: {'; '.join(parts)}."


def _windows(table: pd.DataFrame) -> str:
    """Say what leaving the exact score out, or greedy in its place, costs in each third of time."""
    rows = table[table["metric"] == DISTANCE]
    parts = [
        f"t in [{start:.2g}, {end:.2g}]: {_span(part, 'without')} without guidance, {_span(part, 'greedy')} with "
        f"greedy, which is not told from zero in {_near_zero(part)}"
        for (start, end), part in rows.groupby(["start", "end"])
    ]
    return (
        f"{_verdict(rows)}: with the exact score everywhere but in one third of time, the distance "
        f"is ({rows['noise'].nunique()} noise levels, {rows['operator'].nunique()} operators) for {'; '.join(parts)}."
    )


def _verdict(rows: pd.DataFrame) -> str:
    greedy = rows[rows["kind"] == "greedy"].groupby("start")["mean"].mean()
    early, late = greedy.iloc[0], greedy.iloc[-1]
    return f"Greedy costs {'more early than late' if early > late else 'more late than early'}"


def _near_zero(rows: pd.DataFrame) -> str:
    greedy = rows[rows["kind"] == "greedy"]
    return f"{int((greedy['low'] <= 0).sum())} of {len(greedy)}"


def _span(rows: pd.DataFrame, kind: str) -> str:
    values = rows.loc[rows["kind"] == kind, "mean"]
    return f"{values.min():.2f} to {values.max():.2f}"


def _failures(table: pd.DataFrame) -> str:
    rows = table[table["metric"] == DISTANCE]
    samples = int((rows["samples"] * rows["measurements"]).sum())
    return f"Of {samples} samples {int(rows['failed_samples'].sum())} diverged."


def draw(tables: Tables) -> Figure:
    """Draw a row per distance and a column per operator, with the dial as connected paths."""
    style.apply()
    table = at_main_noise(tables["outcome_summary"])
    operators = list(dict.fromkeys(table["operator"]))
    shape = len(METRICS), len(operators)
    figure, axes = plt.subplots(*shape, figsize=(style.TEXT_WIDTH, 4.6), sharex=True, sharey="row", squeeze=False)
    for row, (metric, label) in zip(axes, METRICS.items(), strict=True):
        for ax, operator in zip(row, operators, strict=True):
            _panel(ax, table[(table["operator"] == operator) & (table["metric"] == metric)])
        row[0].set_ylabel(label)
    for ax in axes[0]:
        ax.set_yscale("symlog", linthresh=LINEAR, linscale=0.5)
        ax.set_ylim(-LINEAR / 2, 2 * table.loc[table["metric"] == DISTANCE, "high"].max())
        ax.axhline(0, color="0.85", linewidth=0.6, zorder=0)
    for ax in axes[1]:
        ax.set_yscale("log")
    for ax, operator in zip(axes[0], operators, strict=True):
        ax.set_title(str(operator).replace("_", " "))
    for ax in axes[-1]:
        ax.set_xscale("log", base=2)
        ax.set_xlabel("evaluations + VJPs")
    figure.legend(handles=_legend(), loc="outside lower center", ncols=4, columnspacing=1.2)
    return style.finish(figure, list(axes.ravel()))


def _panel(ax: Axes, rows: pd.DataFrame) -> None:
    rows = rows.assign(work=rows["evaluations"] + rows["vjps"]).set_index("estimator", drop=False)
    floor = rows.loc["exact"]
    ax.axhline(floor["mean"], **style.THEORY)
    ax.axhspan(floor["low"], floor["high"], color="0.85", linewidth=0, zorder=0)
    for family, dash in DIALS.items():
        path = rows[rows["family"] == family]
        rungs = path[~path.index.str.endswith("greedy_more")].sort_values("work")
        ax.plot(rungs["work"], rungs["mean"], color="0.6", linestyle=dash, linewidth=0.8, zorder=2)
        greedy = path[path.index.str.contains("greedy")]
        ax.plot(greedy["work"], greedy["mean"], color=style.RED, linestyle=dash, linewidth=0.8, zorder=2)
        for row in path.itertuples():
            _point(ax, row, rung_look(str(row.estimator)) | ({"mfc": "white"} if family == "dps" else {}))
    for name, (_, look) in OTHERS.items():
        if name in rows.index:
            _point(ax, next(rows.loc[[name]].itertuples()), look)


def _point(ax: Axes, row: Any, look: Mapping[str, Any]) -> None:
    bars = np.array([[row.mean - row.low], [row.high - row.mean]])
    ax.errorbar(row.work, row.mean, yerr=np.maximum(bars, 0), linestyle="none", elinewidth=0.7, zorder=3, **look)


def rung_look(estimator: str) -> dict[str, Any]:
    """Return colour and marker of a rung "family:rung"."""
    rung = estimator.split(":")[1]
    solver = next((name for name in ("euler", "midpoint") if name in rung), None)
    if rung == "end_to_end":
        solver = None
    look = style.method("greedy" if rung.startswith("greedy") else "end_to_end", solver)
    return {"color": look["color"], "marker": look["marker"], "mec": look["color"]} | (
        {"ms": 6} if rung.startswith("greedy") else {}
    )


def _legend() -> list[Line2D]:
    rungs = {"greedy, 16 and 64 steps": "greedy", "Euler, 2 and 4": "euler_4", "midpoint, 1 and 4": "midpoint_4"}
    looks = [(label, rung_look(f":{rung}")) for label, rung in (rungs | {"end-to-end": "end_to_end"}).items()]
    looks += list(OTHERS.values())
    handles = [Line2D([], [], linestyle="none", label=label, **look) for label, look in looks]
    handles += [Line2D([], [], color="0.6", linestyle=dash, label=RULES[rule]) for rule, dash in DIALS.items()]
    return [*handles, Line2D([], [], label="exact, twice", **style.THEORY)]
