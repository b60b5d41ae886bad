"""Coverage of the credible intervals of guided samples."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("outcome_coverage", "outcome_coverage_facts")
QUESTION = "Do credible intervals of guided samples hold the exact posterior as often as they say?"
answer = style.Caption(
    "Central {level:.0%} intervals of greedy hold {greedy_low..greedy_high:.0%} of the exact samples.",
    "Those of the oracle ODE hold {oracle_low..oracle_high:.0%}, of unguided samples {unguided_low..unguided_high:.0%} "
    "({operators!p:operator}).",
    "Intervals that are as wide as they are misplaced cover too: coverage is read beside the distances.",
    "Shares are over coordinates and exact samples, by ranks, so that exact sets of any size are nominal (grey). Bars "
    "are 95% bootstrap intervals over measurements.",
)
SHOWN = (
    "oracle_ode",
    "oracle_ode_more",
    "oracle_sde",
    "likelihood:greedy",
    "dps:greedy",
    "likelihood:end_to_end",
    "mgps",
    "d_flow",
    "flowgrad",
)


@style.figure(legend=3)
def draw(tables: style.Tables) -> Figure:
    """Draw coverage less its nominal level, one panel per operator."""
    table = tables["outcome_coverage"]
    operators = style.operators(table)
    figure, axes = style.panels(len(operators), 3, 2.2, 0.7, sharey=True)
    for ax, operator in zip(axes, operators, strict=True):
        _panel(ax, only(table, operator=operator))
        ax.set(title=names.of("operators", operator), xlabel="nominal level")
        style.ticks(ax.xaxis, sorted(table["level"].unique()))
    axes[0].set_ylabel("coverage − nominal level")
    return figure


def _panel(ax: Axes, table: pd.DataFrame) -> None:
    ax.axhline(0, **style.THEORY)
    exact = only(table, estimator="exact").sort_values("level")
    ax.fill_between(exact["level"], exact["low"], exact["high"], color="0.85", linewidth=0, label="exact samples")
    for name in SHOWN:
        rows = only(table, estimator=name).sort_values("level")
        if len(rows):
            look = style.sampler(name) | {"linestyle": "-", "linewidth": 0.9}
            style.errorbars(ax, rows["level"], rows, "excess", label=names.sampler(name), **look)
