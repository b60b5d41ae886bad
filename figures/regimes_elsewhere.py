"""The outcome of guidance over budgets at other noise levels, on other data, and judged by the estimator's endpoint."""

from __future__ import annotations

import itertools
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("regimes_summary", "regime_references_summary", "regimes_facts", "regimes_elsewhere_facts")
QUESTION = "Does what pays on the digits pay at other noise levels, and on other data?"


def _ratio(fact: str) -> str:
    return f"{{{fact}:.2f}} ({{{fact}_low:.2f}}–{{{fact}_high:.2f}})"


answer = style.Caption(
    f"End-to-end's misfit in the source over greedy's: {_ratio('noise_0_03_source_misfit')} at noise 0.03, "
    f"{_ratio('noise_0_3_source_misfit')} at 0.3, {_ratio('mnist_source_misfit')} on MNIST.",
    f"Its distance to the posterior per step: {_ratio('noise_0_03_guidance_energy_distance')}, "
    f"{_ratio('noise_0_3_guidance_energy_distance')} and {_ratio('mnist_guidance_energy_distance')}; "
    "one that holds 1 decides nothing.",
    "Judged by their own endpoints, gradients have misfits of {source_own_misfit_low..source_own_misfit_high:.2g}, "
    "energy distances of {source_own_energy_distance_low..source_own_energy_distance_high:.2g}.",
    "Geometric means over operators, largest budget, 95% intervals; dotted: posterior's mean; grey: exact samples.",
)


ROWS = (("guidance", "energy_distance"), ("source", "misfit"))
OWN = "source_own"
LATE = "source_late"  # is in the figure source_mixtures


@style.figure(legend=3)
def draw(tables: style.Tables) -> Figure:
    """Draw a row for each of two regimes, a column per noise, data set and reading, then panels of other regimes."""
    table, references = tables["regimes_summary"], tables["regime_references_summary"]
    main = tables["regimes_facts"].iloc[0][["problem", "noise"]].to_dict()
    places, shown = _places(table, main), list[tuple[str, str, str, dict[str, Any]]]()
    for regime, metric in ROWS:
        shown += [(f"{title},\n{names.SETTINGS[regime]}", regime, metric, place) for title, place in places.items()]
        shown.append((names.of("regimes", OWN).replace(", ", ",\n"), OWN, metric, main))
    columns = len(shown) // len(ROWS)
    for metric, (title, place) in itertools.product(style.OUTCOMES, places.items()):
        there = set(only(table, **place)["regime"]) - {LATE, *dict(ROWS)}
        shown += [
            (f"{title},\n{names.SETTINGS[regime]}", regime, metric, place)
            for regime in names.REGIMES
            if regime in there
        ]
    figure, axes = style.panels(len(shown), columns, 1.9, 0.7)
    for ax, (title, regime, metric, place) in zip(axes, shown, strict=True):
        style.over_budgets(
            ax, only(table, aim=metric, metric=metric, regime=regime, **place), only(references, metric=metric, **place)
        )
        ax.set(title=title, ylabel=style.OUTCOMES[metric])
    for ax in axes[-columns:]:
        ax.set_xlabel("evaluations\n+ products")
    return figure


def _places(table: pd.DataFrame, main: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the problem and noise of each column, by its title: first those that differ in the noise alone."""
    pairs = table[["problem", "noise"]].drop_duplicates().itertuples(index=False)
    others = [(problem, noise) for problem, noise in pairs if (problem, noise) != (main["problem"], main["noise"])]
    return {
        f"noise {noise:g}" if problem == main["problem"] else names.label(problem): {"problem": problem, "noise": noise}
        for problem, noise in others
    }
