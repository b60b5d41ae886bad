"""The parts of each estimator's error."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import looks, names

TABLES = ("precision", "precision_facts")
QUESTION = "How much of an estimator's error is discretisation, how much an inconsistent adjoint, how much arithmetic?"
answer = style.Caption(
    "Arithmetic outweighs all other error in {float32} (float32) and {bfloat16} (bfloat16) of {count} combinations of "
    "problem and estimator.",
    style.choose(
        "largest",
        {
            "discretisation": "Elsewhere discretisation is the largest part.",
            "both": "Elsewhere discretisation is the largest part in {discretisation}, the adjoint's in {adjoint}.",
        },
    ),
    "Each part is relative to the gradient that it is measured against, at t = 0.4 on CondOT; medians over states and "
    "quartiles.",
)
LOOKS = {
    "discretisation": style.marked(looks.BLUE, "o"),
    "adjoint inconsistency": style.marked(looks.ORANGE, "s"),
    "floating point, float32": style.marked("black", "^"),
    "floating point, tf32": style.marked(looks.ROSE, "D"),
    "floating point, bfloat16": style.marked(looks.SKY, "v"),
}


@style.figure(legend=2)
def draw(tables: style.Tables) -> Figure:
    """Draw one panel per problem, a row per setting, a mark per part."""
    table = tables["precision"]
    settings = list(style.groups(table, "estimator", "solver", "steps"))
    rows = [names.method(*key) for key, _ in settings]
    problems = list(style.groups(table, "problem"))
    figure, axes = style.panels(len(problems), 2, 0.2 * len(rows) + 0.4, 0.7, sharex=True, sharey=True)
    for ax, (problem, group) in zip(axes, problems, strict=True):
        _panel(
            ax, group.assign(y=[rows.index(names.method(r.estimator, r.solver, r.steps)) for r in group.itertuples()])
        )
        ax.set(title=names.of("problems", problem), xlabel="relative size")
        ax.label_outer()
    style.rows_of_names(axes[0], rows)
    return figure


def _panel(ax: Axes, rows: pd.DataFrame) -> None:
    for part, look in LOOKS.items():
        shown = only(rows, part=part)
        shown = shown[shown["value"] > 0]
        if len(shown):
            style.errorbars(ax, shown["y"], shown, along="x", label=part, **look)
    ax.set_xscale("log")
    ax.grid(axis="y", color="0.92", linewidth=0.5)
