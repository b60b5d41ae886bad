"""Every estimator at a glance: error against two truths, direction, evaluations, bytes."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from figures import style

TABLES = ("estimators", "estimators_chosen")
QUESTION = "How do all estimators compare at a like number of evaluations, and against which truth?"
Tables = Mapping[str, pd.DataFrame]
KEYS = ["estimator", "solver"]
IDEAL, LIKELIHOOD = "ideal gradient", "likelihood score"
PANELS = (
    ("error to\nideal", IDEAL, "relative_error", "value"),
    ("error to\nlikelihood", LIKELIHOOD, "relative_error", "value"),
    ("1 − cosine\nto ideal", IDEAL, "one_minus_cosine", "value"),
    ("evaluations", IDEAL, "relative_error", "evaluations"),
    ("peak\nbytes", IDEAL, "relative_error", "bytes"),
)


def _name(row: pd.Series) -> str:
    solver = row["solver"] if isinstance(row["solver"], str) else None
    label = style.method_label(row["estimator"], solver)
    return f"{label} {solver}" if row["estimator"] == "truncated" else label


def _ranked(table: pd.DataFrame, against: str) -> pd.DataFrame:
    rows = table[(table["against"] == against) & (table["metric"] == "relative_error")].sort_values("value")
    return rows.assign(name=rows.apply(_name, axis=1))


def answer(tables: Tables) -> str:
    """Name the best against each truth."""
    table = tables["estimators_chosen"]
    best = {against: _ranked(table, against).iloc[0] for against in (IDEAL, LIKELIHOOD)}
    problems = tables["estimators"]["problem"].nunique()
    parts = [f"{row['name']} is nearest the {against} ({row['value']:.2g})" for against, row in best.items()]
    return (
        f"The truths disagree: {' and '.join(parts)}, medians over {problems} problems at t = 0.2 with the variant "
        "nearest 16 evaluations; whiskers are quartiles over problems. Rows are ordered by the first panel; the loss "
        "is the negative log-likelihood of a measurement with unit noise."
    )


def draw(tables: Tables) -> Figure:
    """Draw one row per estimator and one panel per quantity."""
    style.apply()
    table = tables["estimators_chosen"]
    ranked = _ranked(table, IDEAL)
    order = {(r.estimator, str(r.solver)): i for i, r in enumerate(ranked.itertuples())}
    size = (style.TEXT_WIDTH, 0.19 * len(ranked) + 0.9)
    figure, axes = plt.subplots(1, len(PANELS), figsize=size, sharey=True)
    for ax, (title, against, metric, column) in zip(axes, PANELS, strict=True):
        rows = table[(table["against"] == against) & (table["metric"] == metric)]
        _panel(ax, rows, order, column)
        ax.set_xlabel(title)
    axes[0].set(yticks=range(len(ranked)), yticklabels=ranked["name"], ylim=(len(ranked) - 0.4, -0.6))
    return style.finish(figure, list(axes))


def _panel(ax: Axes, rows: pd.DataFrame, order: dict[tuple[str, str], int], column: str) -> None:
    for row in rows.itertuples():
        solver = row.solver if isinstance(row.solver, str) else None
        y = order[row.estimator, str(row.solver)]
        if column == "value":
            ax.plot([row.low, row.high], [y, y], color="0.6", linewidth=0.8, zorder=1)
        ax.plot(getattr(row, column), y, linestyle="none", **style.method(str(row.estimator), solver))
    ax.set_xscale("log")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.grid(axis="y", color="0.92", linewidth=0.5)
