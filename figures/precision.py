"""The parts of each estimator's error."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

TABLES = ("precision",)
QUESTION = "How much of an estimator's error is discretisation, how much an inconsistent adjoint, how much arithmetic?"
Tables = Mapping[str, pd.DataFrame]
LOOKS = {
    "discretisation": (style.BLUE, "o"),
    "adjoint inconsistency": (style.ORANGE, "s"),
    "floating point, float32": (style.GREEN, "^"),
    "floating point, tf32": (style.PURPLE, "D"),
    "floating point, bfloat16": (style.BROWN, "v"),
}


def answer(tables: Tables) -> str:
    """Say for how many settings each arithmetic matters more than the rest."""
    table = tables["precision"]
    wide = table.pivot_table(
        index=["problem", "estimator", "solver", "steps"], columns="part", values="value", dropna=False
    )
    wide = wide.dropna(subset=["total, float64"])
    parts = []
    for name in ("float32", "bfloat16"):
        more = wide[f"floating point, {name}"] > wide["total, float64"]
        parts.append(f"{name} for {int(more.sum())} of {len(wide)}")
    return (
        f"Arithmetic outweighs the whole float64 error in {' and '.join(parts)} combinations of problem and setting; "
        "elsewhere the solver decides. Points are medians over states, lines quartiles, at t = 0.4 on CondOT."
    )


def draw(tables: Tables) -> Figure:
    """Draw one panel per problem, a row per setting, a mark per part."""
    style.apply()
    table = tables["precision"]
    problems = list(dict.fromkeys(table["problem"]))
    settings = list(dict.fromkeys(zip(table["estimator"], table["solver"], table["steps"], strict=True)))
    names = [_label(*setting) for setting in settings]
    order = {name: i for i, name in enumerate(dict.fromkeys(names))}
    columns = min(2, len(problems))
    lines = -(-len(problems) // columns)
    size = (style.TEXT_WIDTH, lines * (0.2 * len(order) + 0.5) + 0.5)
    figure, axes = plt.subplots(lines, columns, figsize=size, sharex=True, sharey=True, squeeze=False)
    for ax, problem in zip(axes.ravel(), problems, strict=False):
        _panel(ax, table[table["problem"] == problem], order)
        ax.set_title(problem)
    axes[0, 0].set(yticks=range(len(order)), yticklabels=list(order), ylim=(len(order) - 0.4, -0.6))
    for ax in axes[-1]:
        ax.set_xlabel("relative size")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return style.finish(figure, list(axes.ravel()[: len(problems)]))


def _label(estimator: str, solver: object, steps: float) -> str:
    tail = f" {solver} {steps:.0f}" if isinstance(solver, str) else ""
    return style.method_label(estimator) + tail


def _panel(ax: Axes, rows: pd.DataFrame, order: dict[str, int]) -> None:
    for part, (colour, marker) in LOOKS.items():
        found = rows[(rows["part"] == part) & (rows["value"] > 0)]
        if len(found):
            y = [order[_label(r.estimator, r.solver, r.steps)] for r in found.itertuples()]
            half = [found["value"] - found["low"], found["high"] - found["value"]]
            ax.errorbar(found["value"], y, xerr=half, fmt=marker, color=colour, ms=3.2, lw=0.7, label=part)
    ax.set_xscale("log")
    ax.grid(axis="y", color="0.92", linewidth=0.5)
