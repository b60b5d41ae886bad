"""The outcome of guidance in one third of time alone, in each regime."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("regime_windows_summary", "regime_windows_facts")
QUESTION = "At which times does guidance matter, in which regime?"
answer = style.Caption(
    "End-to-end guidance of the first third beats that of the last in {early} of {cases} cases (regimes, "
    "aims); {late} reverse.",
    "Misfits, first over last third: {guidance_misfit:.2g} [{guidance_misfit_low:.2g}, {guidance_misfit_high:.2g}] per "
    "step.",
    "In the source: {source_misfit:.2g} [{source_misfit_low:.2g}, {source_misfit_high:.2g}].",
    "Guidance acts in a third of time, or in all; in the source the state at the window's start is optimised, so that "
    "all is early. Means over {operators!p:operator} of medians (misfits: geometric), 95% intervals, some beyond the "
    "panel.",
)
METRICS = {"misfit": "misfit χ²/m", "energy_distance": "energy distance"}
WINDOWS = ("early", "mid", "late", "all")
LEAST = 0.01  # shown: what is far below 1 fits noise


@style.figure(legend=2)
def draw(tables: style.Tables) -> Figure:
    """Draw a row per aim and a column per regime."""
    table = tables["regime_windows_summary"]
    regimes = [regime for regime in names.REGIMES if regime in set(table["regime"])]
    places = [(metric, regime) for metric in METRICS for regime in regimes]
    figure, axes = style.panels(len(places), len(regimes), 1.8, 0.7, sharex=True, sharey="row")
    for i, (ax, (metric, regime)) in enumerate(zip(axes, places, strict=True)):
        _panel(ax, only(table, aim=metric, regime=regime))
        title = names.two_lines(names.of("regimes", regime)) if i < len(regimes) else ""
        ax.set(yscale="log", title=title, xlim=(-0.5, 3.5))
        style.ticks(ax.xaxis, range(len(WINDOWS)), WINDOWS)
        if i % len(regimes) == 0:
            ax.set_ylabel(METRICS[metric])
        if metric == "misfit":
            ax.axhline(1, **style.THEORY)
    if "misfit" in set(table["aim"]):
        axes[0].set_ylim(bottom=LEAST)  # of the row, when all of it is drawn
    return figure


def _panel(ax: Axes, table: pd.DataFrame) -> None:
    for k, (name, rows) in enumerate(style.groups(table, "estimator")):
        place = rows["start"].mul(3).round().where(rows["end"] - rows["start"] < 1, 3) + (k - 0.5) * 0.2
        look = style.sampler(name) | {"linestyle": "none"}
        style.errorbars(ax, place, rows, "mean", label=names.sampler(name), **look)
