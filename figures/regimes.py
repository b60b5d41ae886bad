"""The outcome of guidance over budgets, in each regime."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("regimes_summary", "regime_references_summary", "regimes_facts")
QUESTION = "In which regime does an accurate gradient pay, and from which budget on?"
answer = style.Caption(
    "The least misfit is that of {guidance_misfit_best!n} in per-step guidance, {source_misfit_best!n} in the source.",
    style.choose(
        "source_misfit_order",
        {
            "end": "In the source, at {budget:.0f} evaluations and products, end-to-end fits better "
            "({source_misfit_end_to_end:.2g}; greedy {source_misfit_greedy:.2g}).",
            "greedy": "In the source, at {budget:.0f} evaluations and products, greedy fits better "
            "({source_misfit_greedy:.2g}; end-to-end {source_misfit_end_to_end:.2g}).",
        },
    ),
    style.choose(
        "guidance_energy_distance_order",
        {
            "end": "Per step end-to-end comes nearer to the posterior ({guidance_energy_distance_end_to_end"
            ":.2f}; greedy {guidance_energy_distance_greedy:.2f}).",
            "greedy": "Per step greedy comes nearer to the posterior ({guidance_energy_distance_greedy:.2f}"
            "; end-to-end {guidance_energy_distance_end_to_end:.2f}).",
        },
    ),
    "Rows: misfit χ²/m, energy distance to the posterior, each tuned for; dotted: posterior's mean; grey: exact "
    "samples. Means over {operators!p:operator} of medians, 95% intervals; crosses: over a tenth diverged. "
    "Choices at ends of ranges: {at_end_of_range:.0%}.",
)
LEAST_MISFIT = 0.03  # shown: what is far below 1 fits noise
OWN = "source_own"  # is in the figure regimes_elsewhere


@style.figure(legend=3)
def draw(tables: style.Tables) -> Figure:
    """Draw a row per aim and a column per regime, with a line per estimator."""
    table, main = tables["regimes_summary"], tables["regimes_facts"].iloc[0]
    place = {name: main[name] for name in ("problem", "noise") if name in main}  # where there are several
    table = only(table[table["metric"] == table["aim"]], **place)
    regimes = [regime for regime in names.REGIMES if regime in {*table["regime"]} - {OWN}]
    places = [(metric, regime) for metric in style.OUTCOMES for regime in regimes]
    references = only(tables["regime_references_summary"], **place)
    figure, axes = style.panels(len(places), len(regimes), 1.9, 0.7, sharex=True, sharey="row")
    for i, (ax, (metric, regime)) in enumerate(zip(axes, places, strict=True)):
        style.over_budgets(ax, only(table, metric=metric, regime=regime), only(references, metric=metric))
        ax.set(title=names.two_lines(names.of("regimes", regime)) if i < len(regimes) else "")
        if i >= len(regimes):
            ax.set_xlabel("evaluations\n+ products")
        if i % len(regimes) == 0:
            ax.set_ylabel(style.OUTCOMES[metric])
    axes[0].set_ylim(bottom=LEAST_MISFIT)  # of the row, when all of it is drawn
    return figure
