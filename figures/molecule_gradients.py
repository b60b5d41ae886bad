"""The error of every gradient on the learned flow of molecules, over time and steps, and greedy's slope."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("molecule_gradients", "molecule_gradients_facts")
QUESTION = "How accurate are the gradients on a learned flow of molecules?"
answer = style.Caption(
    "At t = {t:.2g} {best!n} errs least; greedy errs by {greedy:.2g} of the ideal gradient.",
    "Four midpoint steps err by {midpoint_4:.2g}, eight by {end_to_end:.2g}.",
    "Greedy's error falls as ζ to the power {slope:.2f} at the least ζ (theory: 2), and {practical:.2f} at a sampler's "
    "last steps.",
    "Turning a molecule changes its gradient by at most {turned_float64:.0e} in float64.",
    "In float32 it is {turned_float32:.0e}.",
    "From noise, endpoints of {wild!n} lie up to {farthest:.0e} times as far out as it.",
    "Medians and quartiles over {molecules!p:molecule}; dots: the reference's error.",
)


@style.figure(legend=3)
def draw(tables: style.Tables) -> Figure:
    """Draw the error and the angle over time, greedy's error over zeta, and the error over steps."""
    table = tables["molecule_gradients"]
    dial, steps = only(table, family="dial"), only(table, family="steps", metric="relative_error")
    errors = only(dial, metric="relative_error")
    figure, (a, b, c, d) = style.panels(4, 2, 1.9, 0.7)
    _over_time(a, errors, "relative error")
    _over_time(b, only(dial, metric="one_minus_cosine"), "1 − cosine")
    bound = errors.drop_duplicates("t").sort_values("t")
    a.plot(bound["t"], bound["reference_bound"], **style.BOUND)
    _over_zeta(c, only(errors, estimator="greedy"))
    for solver, rows in style.groups(steps, "solver"):
        look = style.method("end_to_end", solver)
        style.band(d, rows, "steps", label=f"{names.of_solver(solver)}, over steps", **look)
    d.axhline(steps["reference_bound"].max(), **style.BOUND)
    d.set(yscale="log", xlabel=f"steps from t = {steps['t'].iloc[0]:.2g} to 1", ylabel="relative error")
    style.doublings(d.xaxis, steps["steps"])
    return figure


def _over_time(ax: Axes, table: pd.DataFrame, label: str) -> None:
    for name, rows in style.groups(table, "estimator"):
        style.band(ax, rows, "t", label=names.sampler(name), **style.sampler(name))
    ax.set(yscale="log", xlabel="t", ylabel=label)


def _over_zeta(ax: Axes, rows: pd.DataFrame) -> None:
    style.band(ax, rows, "zeta", **style.method("greedy"))
    rows = rows.sort_values("zeta")
    ax.plot(rows["zeta"], rows["reference_bound"], **style.BOUND)
    least = rows["zeta"].iloc[0]
    style.power_law(ax, [least, min(20 * least, rows["zeta"].iloc[-1])], 0.1 * rows["value"].iloc[0] / least**2, 2)
    ax.set(xscale="log", yscale="log", xlabel=r"$\zeta_t$", ylabel="greedy's relative error")
