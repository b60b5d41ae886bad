"""Every estimator at a glance: error against two references, direction, evaluations, bytes."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import latex as tex
from figures.style import names

TABLES = ("estimators_chosen", "estimators_facts")
QUESTION = "How do the estimators compare, each in its variant nearest 16 evaluations, and against which reference?"
answer = style.Caption(
    style.choose(
        "nearest",
        {
            "differ": "The references disagree: {ideal!n} is nearest the ideal gradient ({ideal_error:.2g}), "
            "{score!n} the likelihood score ({score_error:.2g}).",
            "same": "{ideal!n} is nearest the ideal gradient ({ideal_error:.2g}) and the likelihood score "
            "({score_error:.2g}).",
        },
    ),
    "They take {evaluations_low..evaluations_high:.0f} evaluations.",
    "Medians and quartiles over {problems!p:problem} at t = {t:g}; rows in the order of a. The loss is the negative "
    "log-likelihood of a measurement with unit noise, so that its score is what exact posterior sampling needs.",
)
IDEAL, LIKELIHOOD = "ideal gradient", "likelihood score"
PANELS = (
    ("error to\nideal", IDEAL, "relative_error", "value"),
    ("error to\nscore", LIKELIHOOD, "relative_error", "value"),
    ("1 − cosine\nto ideal", IDEAL, "one_minus_cosine", "value"),
    ("evaluations", IDEAL, "relative_error", "evaluations"),
    ("peak\nMB", IDEAL, "relative_error", "megabytes"),
)


@style.figure()
def draw(tables: style.Tables) -> Figure:
    """Draw one row per estimator and one panel per quantity."""
    table = tables["estimators_chosen"].assign(megabytes=lambda rows: rows["bytes"] / 1e6)
    ranked = only(table, against=IDEAL, metric="relative_error").sort_values("value")
    places = list(style.groups(ranked, "estimator", "solver"))
    rows = {key: i for i, (key, _) in enumerate(places)}
    figure, axes = style.panels(len(PANELS), len(PANELS), 0.18 * len(rows), 0.9, sharey=True)
    for ax, (title, against, metric, column) in zip(axes, PANELS, strict=True):
        _panel(ax, only(table, against=against, metric=metric), rows, column)
        ax.set_xlabel(title)
    style.rows_of_names(axes[0], [names.method(*key) for key in rows])
    return figure


def _panel(ax: Axes, table: pd.DataFrame, rows: dict[tuple[str, str | None], int], column: str) -> None:
    for (estimator, solver), row in style.groups(table, "estimator", "solver"):
        y, look = rows[estimator, solver], style.method(estimator, solver) | {"clip_on": False, "linestyle": "none"}
        if column == "value":
            ax.plot([row["low"], row["high"]], [y, y], color="0.6", linewidth=0.8, zorder=1)
        ax.plot(row[column], [y], **look)
    ax.set_xscale("log")
    ax.margins(x=0.12)
    style.decades(ax.xaxis, 2)
    ax.grid(axis="y", color="0.92", linewidth=0.5)


def latex(tables: style.Tables) -> dict[str, str]:
    """Return one table: a row per estimator, medians above their quartiles, in the order of the figure."""
    table, facts = tables["estimators_chosen"], tables["estimators_facts"].iloc[0]
    ranked = only(table, against=IDEAL, metric="relative_error").sort_values("value")
    lines = [
        _line(only(table, estimator=estimator, solver=solver), names.method(estimator, solver))
        for (estimator, solver), _ in style.groups(ranked, "estimator", "solver")
    ]
    caption = (
        "Estimators of the guidance gradient, each in its variant nearest 16 evaluations: medians and quartiles over "
        rf"{facts['problems']:.0f} problems at $t = {facts['t']:g}$."
    )
    return {"estimators": tex.table(pd.DataFrame(lines), "estimators", caption, "lcccrrr", plain=[""])}


def _line(part: pd.DataFrame, name: str) -> dict[str, str]:
    line, cost = {"": name}, part.iloc[0]
    for title, against, metric, column in PANELS:
        if column == "value":
            row = only(part, against=against, metric=metric).iloc[0]
            line[title] = tex.interval(row["value"], row["low"], row["high"], ".2g")
    line |= {"Eval.": f"{cost['evaluations']:.0f}", "VJPs": f"{cost['vjps']:.0f}"}
    return line | {"Peak\nMB": f"{cost['bytes'] / 1e6:.2f}"}
