"""Source optimisation on mixtures, from two starts, over budgets, with the optimisers of D-Flow's public code."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("source_mixtures_summary", "source_mixtures_facts")
QUESTION = "On mixtures, from which budget on does an accurate gradient of the source pay?"
answer = style.Caption(
    "From t = 0, on digits, end-to-end's misfit is {digits_misfit_end_to_end_over_mean:.2f} of greedy's, its distance "
    "{digits_energy_distance_end_to_end_over_mean:.2f}.",
    "Intervals at {digits_budget:.0f} evaluations and products: [{digits_misfit_end_to_end_over_low:.2f}, "
    "{digits_misfit_end_to_end_over_high:.2f}], [{digits_energy_distance_end_to_end_over_low:.2f}, "
    "{digits_energy_distance_end_to_end_over_high:.2f}].",
    "On MNIST, at {mnist_budget:.0f}: {mnist_misfit_end_to_end_over_mean:.2f} "
    "[{mnist_misfit_end_to_end_over_low:.2f}, {mnist_misfit_end_to_end_over_high:.2f}] and "
    "{mnist_energy_distance_end_to_end_over_mean:.2f} [{mnist_energy_distance_end_to_end_over_low:.2f}, "
    "{mnist_energy_distance_end_to_end_over_high:.2f}].",
    "From the late start (t = 0.6), on digits: {digits_late_misfit_end_to_end_over_mean:.2f} "
    "[{digits_late_misfit_end_to_end_over_low:.2f}, {digits_late_misfit_end_to_end_over_high:.2f}] and "
    "{digits_late_energy_distance_end_to_end_over_mean:.2f} "
    "[{digits_late_energy_distance_end_to_end_over_low:.2f}, {digits_late_energy_distance_end_to_end_over_high:.2f}].",
    "Geometric means over operators of ratios of medians (misfits as they are, distances below 0.05 as 0.05); 95% "
    "intervals.",
)
LABELS = {"misfit": "misfit over greedy's", "energy_distance": "distance over greedy's"}


@style.figure(legend=3)
def draw(tables: style.Tables) -> Figure:
    """Draw a row per aim and a column per start and problem, with a line per estimator, in ratio to greedy."""
    table = tables["source_mixtures_summary"]
    ends = {f"over_greedy_{end}": end for end in ("mean", "low", "high")}
    table = table.drop(columns=[*ends.values()]).rename(columns=ends)
    there = set(zip(table["regime"], table["problem"], strict=True))
    columns = [(regime, p) for regime in names.STARTS for p in table["problem"].unique() if (regime, p) in there]
    places = [(metric, *column) for metric in LABELS for column in columns]
    figure, axes = style.panels(len(places), len(columns), 1.9, 0.7, sharex="col", sharey="row")
    for i, (ax, (metric, regime, problem)) in enumerate(zip(axes, places, strict=True)):
        style.over_budgets(ax, only(table, aim=metric, metric=metric, problem=problem, regime=regime))
        ax.set(title=f"{names.label(problem)},\n{names.STARTS[regime]}" if i < len(columns) else "")
        if i % len(columns) == 0:
            ax.set_ylabel(LABELS[metric])
        if i >= len(columns):
            ax.set_xlabel("evaluations\n+ products")
    return figure
