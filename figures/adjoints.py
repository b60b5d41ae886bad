"""Discretise-then-optimise against optimise-then-discretise."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("adjoints", "adjoints_facts")
QUESTION = "What does solving the adjoint equation cost in accuracy, against the exact gradient of the discrete solve?"
answer = style.Caption(
    "With {steps} Euler steps the back-solved adjoint is {off_low..off_high:.1%} off its discrete solve's gradient.",
    style.choose(
        "falls",
        {
            True: "That falls as the steps to the power {rate_low..rate_high:.2f}.",
            False: "That changes as the steps to the power {rate_low..rate_high:.2f}.",
        },
    ),
    "End-to-end is that gradient exactly; it is nearest the ideal one for {nearest} of {places} problems and solvers.",
    "Medians and quartiles over states; AdjointDEIS, whose solver is DDIM, is shown with Euler.",
)
AGAINST = {"ideal": "error to the\nideal gradient", "discrete": "distance to the\ndiscrete gradient"}
SOLVERS = ("euler", "rk4")
LINES = dict(  # the same in all panels, whichever of them are there
    zip(
        [*((f"adjoint_{kind}", None) for kind in ("backsolve", "cached", "interpolated")), ("adjoint_deis", 2.0)],
        [*style.DASHES[1:], style.DASHES[1]],
        strict=True,
    )
)


@style.figure(legend=3)
def draw(tables: style.Tables) -> Figure:
    """Draw rows of references and solvers, columns of problems."""
    table = tables["adjoints"]
    problems = style.values(table, "problem")
    lines = [(against, solver) for against in AGAINST for solver in SOLVERS]
    places = [(against, solver, problem) for against, solver in lines for problem in problems]
    columns = max(2, len(problems))  # one problem: two by two
    figure, axes = style.panels(len(places), columns, 1.5, 0.6)
    for i, (ax, (against, solver, problem)) in enumerate(zip(axes, places, strict=True)):
        own = table["solver"].fillna("euler") == solver  # AdjointDEIS names none
        _panel(ax, only(table[own], problem=problem, against=against))
        ax.set_title(f"{names.of('problems', problem)}, {names.of_solver(solver)}")
        if i % columns == 0:
            ax.set_ylabel(AGAINST[against])
    return figure


def _panel(ax: Axes, rows: pd.DataFrame) -> None:
    rows = rows[rows["value"] > 0]  # end-to-end is the discrete gradient itself
    for (estimator, order), group in style.groups(rows, "estimator", "order"):
        look = style.method(estimator) | {"linestyle": LINES.get((estimator, order), "-")}
        look |= {"markersize": 5.5} if estimator == "adjoint_cached" else {}  # seen below the interpolated one's
        label = names.method(estimator) + (f", order {order:.0f}" if order else "")
        style.band(ax, group, "steps", label=label, **look)
    ax.set(yscale="log", xlabel="steps")
    style.doublings(ax.xaxis, rows["steps"])
