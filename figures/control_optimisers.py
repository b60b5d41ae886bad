"""Control optimisation over budgets by each optimiser, in ratio to greedy by Adam."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("control_optimisers_summary", "control_optimisers_facts")
QUESTION = "Does L-BFGS, or more than a hundred iterations, change which gradient of controls pays?"
answer = style.Caption(
    "By SGD end-to-end's misfit is {misfit_sgd_mean:.2f} [{misfit_sgd_low:.2f}, {misfit_sgd_high:.2f}] of greedy's, by "
    "L-BFGS {misfit_lbfgs_line_search_mean:.2f} [{misfit_lbfgs_line_search_low:.2f}, "
    "{misfit_lbfgs_line_search_high:.2f}].",
    "Its distance to the posterior is {energy_distance_sgd_mean:.2f} [{energy_distance_sgd_low:.2f}, "
    "{energy_distance_sgd_high:.2f}] of greedy's by SGD, {energy_distance_lbfgs_line_search_mean:.2f} "
    "[{energy_distance_lbfgs_line_search_low:.2f}, {energy_distance_lbfgs_line_search_high:.2f}] by L-BFGS.",
    "That is at {budget:,}, which pays end-to-end for {iterations:.0f} iterations.",
    "Outcomes over those of greedy by Adam at the same budget; geometric means over {operators!p:operator}, "
    "95% intervals; a misfit below 1 counts as 1.",
)
AIMS = {"energy_distance": "distance", "misfit": "misfit"}
OPTIMISERS = {"sgd": "SGD", "adam": "Adam", "lbfgs_line_search": "L-BFGS, line search"}


@style.figure(legend=2)
def draw(tables: style.Tables) -> Figure:
    """Draw a row per aim and a column per optimiser."""
    table = tables["control_optimisers_summary"]
    places = [(aim, optimiser) for aim in AIMS for optimiser in OPTIMISERS]
    figure, axes = style.panels(len(places), len(OPTIMISERS), 1.9, 0.7, sharex=True, sharey="row")
    for i, (ax, (aim, optimiser)) in enumerate(zip(axes, places, strict=True)):
        for name, rows in style.groups(only(table, aim=aim, optimiser=optimiser), "estimator"):
            style.band(ax, rows, "budget", "mean", label=names.sampler(name), **style.sampler(name))
        ax.axhline(1, **style.THEORY)
        ax.set(xscale="log", yscale="log", title=OPTIMISERS[optimiser] if i < len(OPTIMISERS) else "")
        style.doublings(ax.xaxis, table["budget"])
        if i % len(OPTIMISERS) == 0:
            ax.set_ylabel(f"{AIMS[aim]} over\ngreedy's by Adam")
        if i >= len(OPTIMISERS):
            ax.set_xlabel("evaluations + products")
    return figure
