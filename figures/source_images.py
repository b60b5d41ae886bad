"""Source optimisation with a learned flow from two starts, over budgets, by each gradient against greedy."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("regimes_images_budgets", "regimes_images_source_facts")
QUESTION = "With a learned flow, from which budget on does an accurate gradient of the source pay?"
answer = style.Caption(
    "At {budget:.0f} evaluations and products end-to-end's misfit is {end_to_end_misfit:.2f} of greedy's.",
    "Its interval is [{end_to_end_misfit_low:.2f}, {end_to_end_misfit_high:.2f}]; one midpoint step has "
    "{midpoint_misfit:.2f}.",
    "End-to-end's PSNR is {end_to_end_psnr:+.1f} dB from greedy's [{end_to_end_psnr_low:+.1f}, "
    "{end_to_end_psnr_high:+.1f}].",
    "Two Euler steps have {two_step_euler_misfit:.2f} and {two_step_euler_psnr:+.1f} dB.",
    "End-to-end from the late start, at {late_budget:.0f}: {late_end_to_end_misfit:.2f} and "
    "{late_end_to_end_psnr:+.1f} dB.",
    "a, c: misfits, geometric means of medians, at least 1. b, d: PSNR. Tuned for each; 95% intervals over "
    "{operators!p:operator} (late: {late_operators}).",
)
SPREAD = 0.1  # of whiskers at a budget, to either side, in its logarithm
METRICS = {"misfit": "misfit over greedy's", "psnr": "PSNR less greedy's, dB"}


@style.figure(legend=4)
def draw(tables: style.Tables) -> Figure:
    """Draw a row per start and a panel per aim, with a line per gradient, in ratio or difference to greedy."""
    every = tables["regimes_images_budgets"]
    starts = [regime for regime in names.STARTS if regime in set(every["regime"])]
    places = [(regime, *metric) for regime in starts for metric in METRICS.items()]
    figure, axes = style.panels(len(places), len(METRICS), 2.2)
    for ax, (regime, aim, label) in zip(axes, places, strict=True):
        table = only(every, regime=regime)
        look = style.sampler("greedy") | {"marker": "", "linestyle": "-", "label": names.sampler("greedy")}
        ax.axhline(1 if aim == "misfit" else 0, **look)
        own = only(table, aim=aim)
        others = [name for name in style.RESTORATION if name != "greedy" and name in set(own["estimator"])]
        for name, shift in zip(others, np.linspace(-SPREAD, SPREAD, len(others)), strict=True):
            ends = {f"over_greedy_{end}": end for end in ("mean", "low", "high")}
            rows = only(own, estimator=name).drop(columns=list(ends.values())).rename(columns=ends)
            rows = rows.assign(budget=rows["budget"] * np.exp(shift)).sort_values("budget")
            look = {"linestyle": "-"} | style.sampler(name) | {"label": names.sampler(name)}
            style.errorbars(ax, rows["budget"], rows, "mean", **look)
        ax.set(xscale="log", yscale="log" if aim == "misfit" else "linear", xlabel="evaluations + products")
        ax.set(ylabel=label, title=names.STARTS[regime])
        style.ticks(ax.xaxis, sorted({*table["budget"]}))
    return figure
