"""The outcome of guidance over budgets, in each regime."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import latex as tex
from figures.style import names

TABLES = ("regimes_summary", "regime_references_summary", "regimes_facts")
QUESTION = "In which regime does an accurate gradient pay, and from which budget on?"
answer = style.Caption(
    "The least misfit is that of {guidance_misfit_best!g} in per-step guidance, {source_misfit_best!g} in the source.",
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
    "Rows: misfit, energy distance to the posterior, each tuned for; dotted: posterior's mean; grey: exact "
    "samples. Means over {operators!p:operator} of medians, 95% intervals; crosses: over a tenth diverged. "
    "Choices at ends of ranges: {at_end_of_range:.0%}, of lists: {at_end_of_list:.0%}.",
)
LEAST_MISFIT = 0.03  # shown: what is far below 1 fits noise
OWN = "source_own"  # is in the figure regimes_elsewhere


@style.figure(legend=3)
def draw(tables: style.Tables) -> Figure:
    """Draw a row per aim and a column per regime, with a line per estimator."""
    table, references = _main(tables)
    regimes = [regime for regime in names.REGIMES if regime in set(table["regime"])]
    places = [(metric, regime) for metric in style.OUTCOMES for regime in regimes]
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


def _main(tables: style.Tables) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows and the references of the main problem, each outcome where it was tuned for."""
    table, main = tables["regimes_summary"], tables["regimes_facts"].iloc[0]
    place = {name: main[name] for name in ("problem", "noise") if name in main}  # where there are several
    table = only(table[(table["metric"] == table["aim"]) & (table["regime"] != OWN)], **place)
    return table, only(tables["regime_references_summary"], **place)


def latex(tables: style.Tables) -> dict[str, str]:
    """Return a table per outcome: a row per regime and estimator, means above intervals by budget, the best bold."""
    table, references = _main(tables)
    return {f"regimes_{metric}": _table(metric, only(table, metric=metric), references) for metric in style.OUTCOMES}


def _table(metric: str, table: pd.DataFrame, references: pd.DataFrame) -> str:
    budgets = sorted(set(table["budget"]))
    shown = sorted({budgets[0], budgets[len(budgets) // 2], budgets[-1]})
    kept = only(table[table["failed"] <= style.MANY], budget=shown)
    best = {key: rows["mean"].min() for key, rows in style.groups(kept, "regime", "budget")}
    lines = [
        {"Regime": names.of("regimes", regime), "": names.sampler(name)} | _cells(only(rows, budget=shown), best)
        for (regime, name), rows in style.groups(table, "regime", "estimator")
    ]
    title = tex.maths(style.OUTCOMES[metric])
    caption = (
        f"Guidance by regime and budget of evaluations and products: {title}, means over operators of medians, with "
        rf"95\,\% intervals. Best in bold; $*$: over {100 * style.MANY:.0f}\,\% diverged.{_beside(references, metric)}"
    )
    columns = f"ll{'c' * len(shown)}"
    return tex.table(pd.DataFrame(lines).fillna(""), f"regimes_{metric}", caption, columns, plain=["Regime", ""])


def _cells(rows: pd.DataFrame, best: dict[tuple[str, float], float]) -> dict[str, str]:
    """Return the cells of one estimator in one regime, by budget."""
    cells = {}
    for row in rows.sort_values("budget").to_dict("records"):
        kept = row["failed"] <= style.MANY
        bold = kept and row["mean"] == best[row["regime"], row["budget"]]
        shown = tex.interval(row["mean"], row["low"], row["high"], ".2g", bold=bold)
        cells[f"{row['budget']:.0f}"] = shown if kept else f"{shown}$^*$"
    return cells


def _beside(references: pd.DataFrame, metric: str) -> str:
    """Return a sentence for each reference."""
    said = {"exact_samples": "Exact samples", "posterior_mean": "The posterior's mean"}
    rows = only(references, metric=metric, reference=[*said]).to_dict("records")
    return "".join(f" {said[row['reference']]}: {tex.number(row['mean'], '.2g')}." for row in rows)
