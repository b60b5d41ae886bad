"""The error of every gradient on the learned flow of molecules, over time and steps, and greedy's slope."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("molecule_gradients", "molecule_gradients_facts", "molecule_claims", "molecule_claims_facts")
QUESTION = "How accurate are gradients on a learned flow of molecules?"
answer = style.Caption(
    "Greedy errs by {greedy:.2g} of the ideal gradient at t = {t:.2g} (cosine {greedy_cosine:.2f}).",
    "Eight midpoint steps err by {end_to_end:.2g} (cosine {end_to_end_cosine:.2f}).",
    "Greedy's error falls as ζ to the power {slope:.2f} [{slope_low:.2f}, {slope_high:.2f}] at the least ζ "
    "(theory: 2).",
    "Turning molecules changes gradients by {turned_float64:.0e} (float64), {turned_float32:.0e} (float32).",
    "From noise, those of {wild!n} lie up to {farthest:.0e} times as far out.",
    "{claims_hold} of {claims} claims hold.",
    "Medians, quartiles; dots: the reference.",
)

NEAR: style.Look = {"textcoords": "offset points", "va": "center", "fontsize": style.SMALL}


@style.figure(legend=3)
def draw(tables: style.Tables) -> Figure:
    """Draw the error, the angle and the length of gradients over zeta, and the error over steps."""
    table = tables["molecule_gradients"]
    dial, steps = only(table, family="dial"), only(table, family="steps", metric="relative_error")
    errors = only(dial, metric="relative_error")
    figure, (a, b, c, d) = style.panels(4, 2, 1.9, 0.7)
    _over_zeta(a, errors, "relative error")
    _over_zeta(b, only(dial, metric="one_minus_cosine"), "1 − cosine")
    _over_zeta(c, only(dial, metric="norm_ratio"), "length over the ideal's")
    c.axhline(1, **style.THEORY)
    bound = errors.drop_duplicates("zeta").sort_values("zeta")
    a.plot(bound["zeta"], bound["reference_bound"], **style.BOUND)
    greedy = only(errors, estimator="greedy").sort_values("zeta")
    least = greedy["zeta"].iloc[0]
    ends = [least, min(20 * least, greedy["zeta"].iloc[-1])]
    style.power_law(a, ends, 4 * greedy["value"].iloc[0] / least**2, 2)
    highest = only(steps, steps=steps["steps"].max())["value"].max()
    for solver, rows in style.groups(steps, "solver"):
        look = style.method("end_to_end", solver)
        style.band(d, rows, "steps", **look)
        last = rows.sort_values("steps").iloc[-1]
        at = (5, 4 if last["value"] == highest else -4)  # ends may be near to each other
        d.annotate(names.of_solver(solver), (last["steps"], last["value"]), at, color=look["color"], **NEAR)
    d.axhline(steps["reference_bound"].max(), **style.BOUND)
    d.set(yscale="log", xlabel=f"steps from t = {steps['t'].iloc[0]:.2g} to 1", ylabel="relative error")
    style.doublings(d.xaxis, steps["steps"])
    return figure


def _over_zeta(ax: Axes, table: pd.DataFrame, label: str) -> None:
    for name, rows in style.groups(table, "estimator"):
        style.band(ax, rows, "zeta", label=names.sampler(name), **style.sampler(name))
    ax.set(xscale="log", yscale="log", xlabel=r"$\zeta_t$", ylabel=label)
