"""The parts of a learned guidance gradient's error: learning, discretisation, arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

TABLES = tuple(f"learning_vs_discretisation{part}" for part in ("", "_summary", "_crossings"))
QUESTION = "How much of a learned guidance gradient's error is learning, how much discretisation, how much arithmetic?"
Tables = Mapping[str, pd.DataFrame]
LEARNING: dict[str, Any] = {"color": "black", "linewidth": 1.4}
ARITHMETIC: dict[str, dict[str, Any]] = {
    "float32": {"color": style.GREEN, "marker": "^"},
    "bfloat16": {"color": style.BROWN, "marker": "v"},
}
COLUMNS = 3


def answer(tables: Tables) -> str:
    """Give learning's share over time, where discretisation drops below it, and what the arithmetic adds."""
    table = tables["learning_vs_discretisation_summary"]
    learning = _greedy(table, "learning")
    listed = "; ".join(
        f"{r.mean:.1%} [{r.low:.1%}, {r.high:.1%}] at t = {r.t:g}" for r in learning.itertuples(index=False)
    )
    same, first = _greedy(table, "learning, same steps"), learning.iloc[0]
    at_greedy = ", ".join(f"{r.mean:.1%}" for r in same.itertuples(index=False))
    return (
        f"Learning alone errs by {listed}. Discretisation falls below that {_crossings(tables)}. The network's "
        f"greedy gradient differs from the mixture's exact greedy gradient by {at_greedy} at these times. "
        f"{_arithmetic(table)} All parts are relative to the mixture's ideal gradient ({first['truth']}, error at most "
        f"{table['truth_bound'].max():.0e}); the network's converged one moves by at most "
        f"{table['reference_bound'].max():.0e} when its steps are doubled. Geometric means over "
        f"{int(first['measurements'])} states with 95 % bootstrap intervals; thin lines are the discretisation of the "
        "mixture's exact field, and one Euler step is greedy."
    )


def _greedy(table: pd.DataFrame, part: str) -> pd.DataFrame:
    return table[(table["estimator"] == "greedy") & (table["part"] == part)].sort_values("t")


def _crossings(tables: Tables) -> str:
    """Return, per solver, from how many steps on discretisation is below learning at each time."""
    parts = []
    for solver, rows in tables["learning_vs_discretisation_crossings"].groupby("solver"):
        found = [
            f"{_count(r.below, r.most)} ({_count(r.surely_below, r.most)})" for r in rows.sort_values("t").itertuples()
        ]
        parts.append(f"with {solver} from {', '.join(found)}")
    return " and ".join(parts) + " on (in brackets: with the whole interval of their ratio)"


def _count(steps: float, most: int) -> str:
    if pd.isna(steps):
        return f"more than {most} steps"
    return f"{steps:.0f} step{'s' if steps > 1 else ''}" if steps else "greedy"


def _arithmetic(table: pd.DataFrame) -> str:
    """Say how large each arithmetic's part is, and where it exceeds discretisation."""
    keys, texts = ["t", "solver", "steps"], []
    wide = table.pivot_table(index=keys, columns="part", values="mean")
    for name in ARITHMETIC:
        more = wide[name] > wide["discretisation"]
        texts.append(
            f"{name} adds {wide[name].median():.1g} (at most {wide[name].max():.1g}), more than discretisation in "
            f"{int(more.sum())} of {len(wide)} gradients"
        )
    return f"Arithmetic: {'; '.join(texts)}."


def draw(tables: Tables) -> Figure:
    """Draw one panel per time, the parts over steps, and one with the parts over time."""
    style.apply()
    table = tables["learning_vs_discretisation_summary"]
    times = sorted(table["t"].unique())
    panels = len(times) + 1
    columns = min(COLUMNS, panels)
    lines = -(-panels // columns)
    figure, grid = plt.subplots(lines, columns, figsize=(style.TEXT_WIDTH, 2.0 * lines + 0.5), squeeze=False)
    axes = list(grid.ravel())
    for ax, t in zip(axes, times, strict=False):
        _over_steps(ax, table[table["t"] == t])
        ax.set_title(f"t = {t:g}")
    _over_time(axes[len(times)], table)
    _share(axes[:panels], table)
    handles, labels = axes[0].get_legend_handles_labels()
    for ax in axes[panels:]:
        ax.set_axis_off()
    if panels < len(axes):
        axes[panels].legend(handles, labels, loc="center left", borderaxespad=0, handlelength=1.6)
    else:
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return style.finish(figure, axes[:panels])


def _share(axes: list[Axes], table: pd.DataFrame) -> None:
    """Give all panels the same limits, so that they compare, and labels where there is room."""
    shown = table[table["mean"] > 0]
    for i, ax in enumerate(axes):
        ax.set(yscale="log", ylim=(shown["low"].min() / 2, shown["high"].max() * 2))
        if i % COLUMNS == 0:
            ax.set_ylabel("relative to |g*|")


def _over_steps(ax: Axes, rows: pd.DataFrame) -> None:
    learning = rows[rows["part"] == "learning"].iloc[0]
    ax.axhline(learning["mean"], label="learning", **LEARNING)
    ax.axhspan(learning["low"], learning["high"], color="0.85", linewidth=0)
    for solver in sorted(set(rows["solver"]) - {""}):
        own = rows[rows["solver"].isin([solver, ""] if solver == "euler" else [solver])]
        look = style.method("end_to_end", solver)
        _line(ax, own, "discretisation", f"discretisation, {solver}", look)
        thin = {"color": look["color"], "linewidth": 0.8, "linestyle": (0, (1, 1))}
        _line(ax, own, "discretisation, exact field", f"of the exact field, {solver}", thin)
    euler = rows[rows["solver"].isin(["euler", ""])]
    for name, look in ARITHMETIC.items():
        _line(ax, euler, name, f"{name}, euler", look)
    steps = sorted(set(rows["steps"].clip(lower=1)))
    ax.set_xscale("log", base=2)
    ax.set_xticks(steps, [f"{n:g}" for n in steps])
    ax.set_xlabel("steps")


def _line(ax: Axes, rows: pd.DataFrame, part: str, label: str, look: Mapping[str, Any]) -> None:
    rows = rows[(rows["part"] == part) & (rows["mean"] > 0)].sort_values("steps")
    half = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
    ax.errorbar(rows["steps"].clip(lower=1), rows["mean"], yerr=half, label=label, elinewidth=0.7, **look)


def _over_time(ax: Axes, table: pd.DataFrame) -> None:
    greedy = style.method("greedy")
    series = {
        "learning": LEARNING,
        "discretisation": greedy,
        "learning, same steps": {"color": greedy["color"], "linestyle": (0, (4, 1.5)), "marker": "o"},
    }
    names = {
        "learning": "learning",
        "discretisation": "greedy's\ndiscretisation",
        "learning, same steps": "greedy's learning",
    }
    for part, look in series.items():
        rows = _greedy(table, part)
        half = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
        ax.errorbar(rows["t"], rows["mean"], yerr=half, label=names[part], elinewidth=0.7, **look)
    ax.set(xlabel="time t of the state")
    ax.set_xlim(table["t"].min() - 0.05, table["t"].max() + 0.05)
    ax.legend(loc="lower left", handlelength=1.4)
