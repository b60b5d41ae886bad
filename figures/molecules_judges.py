"""The same molecules as the guide, the evaluator, GFN2-xTB and density functional theory see them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("molecules_summary", "molecules_facts")
QUESTION = "Is what the network reports of guided molecules true of the molecules?"
answer = style.Caption(
    style.choose(
        "xtb_order",
        {
            "end": "GFN2-xTB, too, finds end-to-end's errors below greedy's.",
            "greedy": "GFN2-xTB finds greedy's errors below end-to-end's.",
            "none": "GFN2-xTB does not tell end-to-end's errors from greedy's.",
            "few": "GFN2-xTB judges {xtb_pairs} targets of both end-to-end and greedy, too few to order them.",
        },
    ),
    style.choose(
        "dft_order",
        {
            "end": "Density functional theory finds end-to-end's errors below greedy's ({dft_pairs} targets).",
            "greedy": "Density functional theory finds greedy's errors below end-to-end's ({dft_pairs} targets).",
            "none": "Density functional theory does not tell them apart ({dft_pairs} targets).",
            "few": "Density functional theory judges {dft_pairs} targets of both, too few to order them.",
        },
    ),
    "Of greedy's mean error end-to-end leaves {guide_ratio_all:.2f} by the guide, {evaluator_ratio_all:.2f} by the "
    "evaluator and {xtb_ratio_all:.2f} by GFN2-xTB, of those that each judges.",
    "Of {judged} molecules that did not diverge {unjudged} have no value there (open shell, overlap, no convergence).",
    "Source optimisation, {budget} evaluations and products, {molecules!p:molecule}.",
    "Errors over the data's spread (dashes), 95% intervals of eight or more.",
)


@style.figure(legend=3)
def draw(tables: style.Tables) -> Figure:
    """Draw a panel per judge, the properties side by side with the estimators in the same order in each."""
    table = only(tables["molecules_summary"], setting="source", over="all")
    guided = table[table["estimator"] != "unguided"]
    table = table[(table["budget"] == guided["budget"].max()) | (table["estimator"] == "unguided")]
    judges = [name for name in names.JUDGES if name in set(table["metric"])]
    shown = [name for name in names.PROPERTIES if name in set(table["property"])]
    figure, axes = style.panels(len(judges), 1, 1.5, 0.7, sharex=True)
    for ax, name in zip(axes, judges, strict=True):
        _panel(ax, only(table, metric=name), shown)
        ax.set(title=names.JUDGES[name], ylabel="error\n/ spread")
    return figure


def _panel(ax: Axes, table: pd.DataFrame, shown: list[str]) -> None:
    methods = style.values(table, "estimator")
    for i in range(0, len(shown), 2):
        ax.axvspan(i - 0.5, i + 0.5, color="0.95", linewidth=0, zorder=-1)
    ax.axhline(1, **style.THEORY)
    for offset, name in zip(np.linspace(-0.35, 0.35, max(len(methods), 2)), methods, strict=False):
        rows = only(table, estimator=name)
        rows = rows[rows["relative_mean"].notna()]
        ends = rows[["relative_mean", "relative_low", "relative_high"]].set_axis(["value", "low", "high"], axis=1)
        x = rows["property"].map(shown.index) + offset
        style.errorbars(ax, x, ends, label=names.sampler(name), **style.sampler(name) | {"linestyle": "none"})
    style.ticks(
        ax.xaxis,
        range(len(shown)),
        [_short(name) for name in shown],
    )
    ax.set_xlim(-0.5, len(shown) - 0.5)
    style.from_zero(ax.yaxis)
    ax.tick_params(axis="x", length=0)


def _short(name: str) -> str:
    """Return a property without its unit."""
    return names.of("properties", name).split(",")[0].removesuffix(" / spread")
