"""Source optimisation on mixtures, over budgets, with the optimisers of D-Flow's public code."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("source_mixtures_summary", "source_mixtures_facts")
QUESTION = "On mixtures, from which budget on does an accurate gradient of the source pay?"
answer = style.Caption(
    "On digits end-to-end's misfit is {digits_misfit_end_to_end_over_mean:.2f} of greedy's, its distance to the "
    "posterior {digits_energy_distance_end_to_end_over_mean:.2f}.",
    "Intervals at {digits_budget:.0f} evaluations and products: [{digits_misfit_end_to_end_over_low:.2f}, "
    "{digits_misfit_end_to_end_over_high:.2f}], [{digits_energy_distance_end_to_end_over_low:.2f}, "
    "{digits_energy_distance_end_to_end_over_high:.2f}].",
    "On MNIST, at {mnist_budget:.0f}: {mnist_misfit_end_to_end_over_mean:.2f} "
    "[{mnist_misfit_end_to_end_over_low:.2f}, {mnist_misfit_end_to_end_over_high:.2f}] and "
    "{mnist_energy_distance_end_to_end_over_mean:.2f} [{mnist_energy_distance_end_to_end_over_low:.2f}, "
    "{mnist_energy_distance_end_to_end_over_high:.2f}].",
    "Where a misfit below 1 counts as 1 it is {digits_floored_mean:.2f} of greedy's on digits.",
    "Geometric means over operators of ratios of medians; bands and whiskers: 95% intervals.",
)
LABELS = {"misfit": "misfit over greedy's", "energy_distance": "distance over greedy's"}


@style.figure(legend=3)
def draw(tables: style.Tables) -> Figure:
    """Draw a row per aim and a column per problem, with a line per estimator, in ratio to greedy."""
    table = tables["source_mixtures_summary"]
    ends = {f"over_greedy_{end}": end for end in ("mean", "low", "high")}
    table = table.drop(columns=[*ends.values()]).rename(columns=ends)
    problems = table["problem"].unique()
    places = [(metric, problem) for metric in LABELS for problem in problems]
    figure, axes = style.panels(len(places), len(problems), 2.0, sharex="col", sharey="row")
    for i, (ax, (metric, problem)) in enumerate(zip(axes, places, strict=True)):
        style.over_budgets(ax, only(table, aim=metric, metric=metric, problem=problem))
        ax.set(title=names.label(problem) if i < len(problems) else "")
        if i % len(problems) == 0:
            ax.set_ylabel(LABELS[metric])
        if i >= len(problems):
            ax.set_xlabel("evaluations + products")
    return figure
