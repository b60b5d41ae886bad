"""Source optimisation on mixtures, over budgets, with the optimisers of D-Flow's public code."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("source_mixtures_summary", "source_mixtures_references", "source_mixtures_facts")
QUESTION = "On mixtures, from which budget on does an accurate gradient of the source pay?"
answer = style.Caption(
    "End-to-end's misfit is {digits_misfit_end_to_end_over_mean:.2f} of greedy's on digits, "
    "{mnist_misfit_end_to_end_over_mean:.2f} on MNIST.",
    "Intervals: [{digits_misfit_end_to_end_over_low:.2f}, {digits_misfit_end_to_end_over_high:.2f}], "
    "[{mnist_misfit_end_to_end_over_low:.2f}, {mnist_misfit_end_to_end_over_high:.2f}].",
    "Its distance to the posterior is {digits_energy_distance_end_to_end_over_mean:.2f} "
    "[{digits_energy_distance_end_to_end_over_low:.2f}, {digits_energy_distance_end_to_end_over_high:.2f}] and "
    "{mnist_energy_distance_end_to_end_over_mean:.2f} [{mnist_energy_distance_end_to_end_over_low:.2f}, "
    "{mnist_energy_distance_end_to_end_over_high:.2f}].",
    "These are geometric means over operators at the largest budgets, {digits_budget:.0f} and {mnist_budget:.0f} "
    "evaluations and products.",
    "On digits end-to-end's misfit is at most greedy's from {digits_misfit_from:.0f} on.",
    "Dotted: posterior's mean; grey: exact samples. Means over operators of medians, 95 % intervals. L-BFGS has a line "
    "search.",
)


@style.figure(legend=3)
def draw(tables: style.Tables) -> Figure:
    """Draw a row per aim and a column per problem, with a line per estimator."""
    table, references = tables["source_mixtures_summary"], tables["source_mixtures_references"]
    problems = table["problem"].unique()
    places = [(metric, problem) for metric in style.OUTCOMES for problem in problems]
    figure, axes = style.panels(len(places), len(problems), 2.0, sharex="col")
    for i, (ax, (metric, problem)) in enumerate(zip(axes, places, strict=True)):
        place = {"metric": metric, "problem": problem}
        style.over_budgets(ax, only(table, aim=metric, **place), only(references, **place))
        ax.set(title=names.label(problem) if i < len(problems) else "", ylabel=style.OUTCOMES[metric])
        if i >= len(problems):
            ax.set_xlabel("evaluations + products")
    return figure
