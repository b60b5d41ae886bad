"""How tight the bounds are."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("bounds_tightness", "bounds_facts")
QUESTION = "Do the bounds of the gradient's error hold, and how much of them is used?"
answer = style.Caption(
    style.choose(
        "holds",
        {
            True: "No bound is violated in {cases!p:case} or more.",
            False: "Bounds are violated in {violated!p:case}.",
        },
    ),
    style.choose(
        "identity_holds",
        {
            True: "The identity behind greedy's bounds holds in {identity_resolved!p:case}.",
            False: "The identity behind greedy's bounds fails in {identity_failed!p:case}.",
        },
    ),
    "Median errors are {integral_form:.2f} of the integral form, loosest on {loosest!n} at ζ = {loosest_zeta:.2g}, and "
    "{logarithmic_norm:.2g} of the logarithmic norm; {a_priori_vacuous:.0%} of the a priori bounds say nothing.",
    "Upper row: greedy; lower: end-to-end, 2 to 8 steps. Marks: medians; lines: quartiles and 5% to 95%; dashes: "
    "the bound; rows: decades of ζ.",
)
BOUNDS = ("integral_form", "sup_form", "a_priori", "logarithmic_norm", "gronwall")
FLOOR = 1e-9  # what is tighter is drawn at the edge


@style.figure(legend=5)
def draw(tables: style.Tables) -> Figure:
    """Draw one panel per bound, by decade of zeta."""
    table = tables["bounds_tightness"]
    there = [bound for bound in BOUNDS if bound in set(table["bound"])]
    figure, axes = style.panels(len(there), 3, 1.9, 0.5)
    for ax, bound in zip(axes, there, strict=True):
        _panel(ax, only(table, bound=bound))
        ax.set_title(names.of("bounds", bound))
    return figure


def _panel(ax: Axes, table: pd.DataFrame) -> None:
    decades = sorted(table["decade"].unique())
    solvers = list(style.groups(table, "solver"))
    for j, (solver, rows) in enumerate(solvers):
        y = rows["decade"].map(decades.index) + (j - (len(solvers) - 1) / 2) * 0.2
        look = style.method("end_to_end", solver) if solver else style.method("greedy")
        for low, high, width in (("q05", "q95", 0.7), ("q25", "q75", 2.2)):
            ends = (rows[end].clip(lower=FLOOR) for end in (low, high))
            ax.hlines(y, *ends, color=look["color"], linewidth=width)
        label = names.of_solver(solver) if solver else "greedy"
        ax.plot(rows["median"].clip(lower=FLOOR), y, label=label, **look | {"linestyle": "none", "markersize": 5})
    ax.axvline(1, **style.THEORY)
    ax.set_xlabel("error / bound")
    style.decades(ax.xaxis)
    style.rows_of_names(ax, [f"$10^{{{d}}}$ to $10^{{{d + 1}}}$" for d in decades])
