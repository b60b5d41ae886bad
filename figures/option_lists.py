"""Outcomes at values of listed options, in the list and beyond it, over the outcome at the list's end."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("option_lists_summary", "option_lists_facts")
QUESTION = "Where may the lists of the source's start and of the moves per step end?"
answer = style.Caption(
    "By distance a start after t = 0.6 is best in {source_t_energy_distance_beyond:.0%} of {cases!p:case}, "
    "by misfit in {source_t_misfit_beyond:.0%}.",
    "In the median case the best later start is {source_t_energy_distance_gain:.2f} and {source_t_misfit_gain:.2f} "
    "times the best up to there.",
    "Outcomes of the best trial at {budget:,} evaluations and products, over that at the list's end (dashes); right of "
    "it lies what is not in the list. Geometric means over {operators!p:operator}, 95% intervals.",
)
TITLES = {
    ("source", "t"): "source:\nstart t",
    ("steps", "inner"): "optimiser per step:\nmoves",
}
AIMS = {"energy_distance": "distance", "misfit": "misfit"}


@style.figure(legend=3)
def draw(tables: style.Tables) -> Figure:
    """Draw a row per aim and a column per option."""
    table = tables["option_lists_summary"]
    shown = [key for key in TITLES if key in set(zip(table["regime"], table["option"], strict=True))]
    places = [(aim, *key) for aim in AIMS for key in shown]
    figure, axes = style.panels(len(places), len(shown), 1.7, 0.7, sharey="row", sharex="col")
    for i, (ax, (aim, regime, option)) in enumerate(zip(axes, places, strict=True)):
        _panel(ax, only(table, aim=aim, regime=regime, option=option))
        ax.set(yscale="log", title=TITLES[regime, option] if i < len(shown) else "")
        if i % len(shown) == 0:
            ax.set_ylabel(f"{AIMS[aim]} over\nthat at the list's end")
    return figure


def _panel(ax: Axes, table: pd.DataFrame) -> None:
    values = sorted(set(table["chosen"]))
    places = {value: i for i, value in enumerate(values)}
    for k, (name, rows) in enumerate(style.groups(table, "estimator")):
        place = rows["chosen"].map(places) + (k - 1) * 0.15
        look = style.sampler(name) | {"linestyle": "none"}
        style.errorbars(ax, place, rows, "mean", label=names.sampler(name), **look)
    ax.axhline(1, **style.THEORY)
    ax.axvline(len(set(only(table, beyond=False)["chosen"])) - 0.5, **style.THEORY)
    style.ticks(ax.xaxis, range(len(values)), [f"{value:g}".replace("0.", ".") for value in values])
