"""Guided samples of real held-out digits, every operator: distance to the exact posterior, beside unguided samples."""

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
from figures.outcome_vs_compute import OTHERS, rung_look

TABLES = ("posterior_table", "posterior_table_summary", "posterior_table_paired")
QUESTION = "Over seven operators and two kinds of real digits, which guided samplers come near the exact posterior?"
Tables = Mapping[str, pd.DataFrame]
DISTANCE = "energy_distance"
NAMES = {"digits": "8×8 digits", "mnist": "MNIST, 28×28"}
LINEAR = 0.02  # below it the axis, on which distances may be negative, is linear
HOLLOW = {"mfc": "white"}
GREEDY = "likelihood:greedy"
# in the order in which they are drawn, from left to right
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "oracle_ode": OTHERS["oracle_ode"],
    GREEDY: ("greedy", rung_look(":greedy")),
    "dps:greedy": ("greedy, DPS steps", rung_look(":greedy") | HOLLOW),
    "likelihood:pigdm": ("PiGDM", style.method("pigdm")),
    "likelihood:two_step_euler": ("two-step Euler", rung_look(":two_step_euler")),
    "likelihood:midpoint": ("midpoint", rung_look(":midpoint")),
    "likelihood:adaptive": ("adaptive", style.method("adaptive")),
    "likelihood:end_to_end": ("end-to-end", rung_look(":end_to_end")),
    "d_flow": OTHERS["d_flow"],
    "flowgrad": OTHERS["flowgrad"],
    "oc_flow": ("OC-Flow", OTHERS["flowgrad"][1] | HOLLOW),
}


def main_path(table: pd.DataFrame) -> pd.DataFrame:
    """Return the distances along the path that all methods were run on."""
    rows = table[table["metric"] == DISTANCE]
    return rows[rows["path"] == rows.groupby("path")["estimator"].nunique().idxmax()]


def relative(rows: pd.DataFrame) -> pd.DataFrame:
    """Return means and intervals over the unguided mean of the same place."""
    places = ["problem", "path", "operator", "noise"]
    unguided = rows[rows["estimator"] == "unguided"].set_index(places)["mean"].rename("unguided")
    found = rows.join(unguided, on=places)
    for key in ("mean", "low", "high"):
        found[key] = found[key] / found["unguided"]
    return found


def answer(tables: Tables) -> str:
    """Say what share of the distance greedy leaves, which methods are better, and whether another path agrees."""
    summary = tables["posterior_table_summary"]
    rows = relative(main_path(summary))
    sizes = rows.drop_duplicates("problem").set_index("problem")
    counts = [f"{row.measurements} images of {label(p)}, {row.samples} samples each" for p, row in sizes.iterrows()]
    return (
        f"{' '.join(_left(p, part) for p, part in rows.groupby('problem', sort=False))} "
        f"{_against_greedy(main_path(tables['posterior_table_paired']))}{_other_path(summary)}"
        f"Truth is the posterior of the mixture fitted to other images. Means over {'; '.join(counts)}, noise "
        f"{rows['noise'].iloc[0]:g}, over the mean of unguided samples (dashed); bars are 95 % bootstrap intervals. "
        f"{_failures(summary)}"
    )


def label(problem: Any) -> str:
    """Return a data set's name as the figure prints it."""
    return NAMES.get(str(problem), str(problem))


def _left(problem: Any, rows: pd.DataFrame) -> str:
    shares = rows.pivot(index="operator", columns="estimator", values="mean")
    greedy, most = shares[GREEDY], str(shares[GREEDY].idxmax()).replace("_", " ")
    guided = rows[rows["estimator"].isin(METHODS) & (rows["family"] != "oracle") & rows["mean"].notna()]
    best = guided.loc[guided.groupby("operator", sort=False)["mean"].idxmin(), "estimator"].value_counts()
    wins = ", ".join(f"{METHODS[name][0]} on {n}" for name, n in best.items())
    return (
        f"{label(problem)}: greedy with likelihood steps leaves {greedy.min():.0%} to {greedy.max():.0%} ({most}) of "
        f"the energy distance between unguided samples and the posterior; best without the exact score are {wins}."
    )


def _against_greedy(paired: pd.DataFrame) -> str:
    """Say on how many operators each method differs from greedy, in pairs."""
    parts = []
    for name, (shown, _) in METHODS.items():
        rows = paired[(paired["estimator"] == name) & paired["mean"].notna()]
        if len(rows) and name not in (GREEDY, "oracle_ode"):
            better, worse = int((rows["high"] < 0).sum()), int((rows["low"] > 0).sum())
            parts.append(f"{shown} {better} and {worse} of {len(rows)}")
    return f"Better and worse than greedy, paired over the images, with an interval without zero: {', '.join(parts)}. "


def _other_path(summary: pd.DataFrame) -> str:
    """Say how often two methods that both paths have stand in the same order on both."""
    rows = relative(summary[summary["metric"] == DISTANCE])
    rows = rows[rows["estimator"].isin(METHODS) & (rows["family"] != "oracle") & (rows["problem"] == "digits")]
    found = rows.pivot(index=["operator", "estimator"], columns="path", values="mean").dropna()
    if found.shape[1] < 2:
        return ""
    signs = [_signs(part) for _, part in found.groupby(level="operator")]
    same = np.concatenate([(s[:, 0] == s[:, 1]) for s in signs])
    names = " and ".join(style.path_label(str(path)) for path in found.columns)
    return f"Along {names}, {same.sum()} of {len(same)} pairs of methods stand in the same order. "


def _signs(values: pd.DataFrame) -> np.ndarray:
    first, second = np.triu_indices(len(values), 1)
    return np.sign(values.to_numpy()[first] - values.to_numpy()[second])


def _failures(summary: pd.DataFrame) -> str:
    rows = summary[summary["metric"] == DISTANCE]
    samples = int((rows["samples"] * rows["measurements"]).sum())
    lost = rows[rows["mean"].isna()]["estimator"].unique()
    could_not = f" {', '.join(map(str, lost))} could not run." if len(lost) else ""
    return f"Of {samples} samples {int(rows['failed_samples'].sum())} diverged.{could_not}"


def draw(tables: Tables) -> Figure:
    """Draw a panel per data set, with the operators side by side and the methods in the same order in each."""
    style.apply()
    rows = relative(main_path(tables["posterior_table_summary"]))
    problems = list(dict.fromkeys(rows["problem"]))
    size = (style.TEXT_WIDTH, 0.9 + 2.1 * len(problems))
    figure, axes = plt.subplots(len(problems), 1, figsize=size, sharey=True, squeeze=False)
    for ax, problem in zip(axes[:, 0], problems, strict=True):
        _panel(ax, rows[rows["problem"] == problem])
        ax.set_title(label(problem))
    shown = [name for name in METHODS if rows.loc[rows["estimator"] == name, "mean"].notna().any()]
    handles = [Line2D([], [], linestyle="none", label=METHODS[n][0], **METHODS[n][1]) for n in shown]
    figure.legend(
        handles=[*handles, Line2D([], [], label="unguided", **style.THEORY)], loc="outside lower center", ncols=4
    )
    figure.supylabel("energy distance / unguided", fontsize=8)
    return style.finish(figure, list(axes[:, 0]))


def _panel(ax: Axes, rows: pd.DataFrame) -> None:
    operators = list(dict.fromkeys(rows["operator"]))
    ax.set_yscale("symlog", linthresh=LINEAR, linscale=0.4)
    ax.axhline(1, **style.THEORY)
    ax.axhline(0, color="0.75", linewidth=0.6, zorder=0)
    for i in range(0, len(operators), 2):
        ax.axvspan(i - 0.5, i + 0.5, color="0.95", linewidth=0, zorder=-1)
    offsets = np.linspace(-0.4, 0.4, len(METHODS))
    for offset, (name, (_, look)) in zip(offsets, METHODS.items(), strict=True):
        found = rows[rows["estimator"] == name].set_index("operator").reindex(operators)
        bars = np.abs(found[["low", "high"]].to_numpy().T - found["mean"].to_numpy())
        x = np.arange(len(operators)) + offset
        ax.errorbar(x, found["mean"], yerr=bars, linestyle="none", elinewidth=0.7, zorder=3, **look)
    ax.set_xticks(range(len(operators)), [_two_lines(str(o)) for o in operators])
    ax.set_xlim(-0.5, len(operators) - 0.5)
    ax.tick_params(axis="x", length=0)


def _two_lines(operator: str) -> str:
    return operator.replace("gaussian", "Gaussian").replace("_", "\n", 1).replace("_", " ×")
