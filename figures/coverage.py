"""Coverage of the credible intervals of guided samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from figures.outcome_vs_compute import DIALS, OTHERS, at_main_noise, rung_look

TABLES = ("outcome", "outcome_summary")
QUESTION = "Do credible intervals of guided samples hold the exact posterior as often as they say?"
Tables = Mapping[str, pd.DataFrame]
PREFIX = "coverage_"
SHOWN = (
    "oracle_ode",
    "oracle_ode_more",
    "oracle_sde",
    "likelihood:greedy",
    "dps:greedy",
    "likelihood:end_to_end",
    "d_flow",
    "flowgrad",
)
OFFSET = 0.006  # between methods, so that bars do not hide each other


def curves(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of coverage, with their nominal level."""
    rows = table[table["metric"].str.startswith(PREFIX)]
    return rows.assign(level=rows["metric"].str.removeprefix(PREFIX).astype(float))


def answer(tables: Tables) -> str:
    """Say how far from nominal the widest intervals of each method are, and that this alone is no sign of quality."""
    rows = curves(at_main_noise(tables["outcome_summary"]))
    top = rows[rows["level"] == rows["level"].max()]
    parts = []
    for name in ("exact", *SHOWN, "unguided"):
        found = top[top["estimator"] == name]["mean"]
        if len(found):
            parts.append(f"{label(name)} {found.min():.0%} to {found.max():.0%}")
    return (
        f"Exact samples inside central {top['level'].iloc[0]:.0%} intervals, over {top['operator'].nunique()} "
        f"operators: {'; '.join(parts)}. Shares are over coordinates and exact samples, by ranks, so that exact sets "
        "of any size are nominal (the dashed line). Intervals that are as wide as they are misplaced cover too, as "
        "those of unguided samples nearly do: coverage is read beside the distances. Bars are 95 % bootstrap intervals "
        "over measurements."
    )


def label(name: str) -> str:
    """Return a method's name as the figure prints it."""
    if name in OTHERS:
        return OTHERS[name][0]
    family, _, rung = name.partition(":")
    named = {"likelihood": "likelihood steps", "dps": "DPS steps"}.get(family, family)
    return f"{rung.replace('_', '-')}, {named}" if rung else named


def look_of(name: str) -> dict[str, Any]:
    """Return the look of a method."""
    if name in OTHERS:
        return {"linestyle": "--" if name.endswith("more") else "-"} | OTHERS[name][1]
    dash = DIALS[name.split(":")[0]]
    return rung_look(name) | {"linestyle": dash} | ({"mfc": "white"} if name.startswith("dps") else {})


def draw(tables: Tables) -> Figure:
    """Draw coverage less its nominal level, one panel per operator."""
    style.apply()
    table = curves(at_main_noise(tables["outcome_summary"]))
    operators = list(dict.fromkeys(table["operator"]))
    size = (style.TEXT_WIDTH, 2.9)
    figure, axes = plt.subplots(1, len(operators), figsize=size, sharex=True, sharey=True, squeeze=False)
    for ax, operator in zip(axes[0], operators, strict=True):
        _panel(ax, table[table["operator"] == operator])
        ax.set_title(str(operator).replace("_", " "))
        ax.set_xlabel("nominal level")
    axes[0, 0].set_ylabel("coverage − nominal level")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return style.finish(figure, list(axes[0]))


def _panel(ax: Axes, table: pd.DataFrame) -> None:
    ax.axhline(0, **style.THEORY)
    exact = table[table["estimator"] == "exact"].sort_values("level")
    low, high = exact["low"] - exact["level"], exact["high"] - exact["level"]
    ax.fill_between(exact["level"], low, high, color="0.85", linewidth=0, zorder=0, label="exact samples")
    for i, name in enumerate(SHOWN):
        rows = table[table["estimator"] == name].sort_values("level")
        if rows.empty:
            continue
        bars = np.abs(rows[["low", "high"]].to_numpy().T - rows["mean"].to_numpy())
        x = rows["level"] + (i - len(SHOWN) / 2) * OFFSET
        ax.errorbar(
            x, rows["mean"] - rows["level"], yerr=bars, elinewidth=0.6, lw=0.9, label=label(name), **look_of(name)
        )
