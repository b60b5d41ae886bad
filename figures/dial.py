"""Error of the guidance gradient against the samples that it leads to: does accuracy pay, and where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("dial_summary", "dial_correlation", "dial_facts")
QUESTION = "In place of the likelihood score, does a more accurate gradient lead to better samples, and when?"
answer = style.Caption(
    "Error to the ideal gradient and energy distance have rank correlation {ideal:+.2f} [{ideal_low:+.2f}, "
    "{ideal_high:+.2f}].",
    "Error to the likelihood score has {score:+.2f} [{score_low:+.2f}, {score_high:+.2f}] ({operators!p:operator}).",
    style.choose(
        "score_pays",
        {
            "yes": "Accuracy against the score pays.",
            "no": "Accuracy against the score harms.",
            "unknown": "No sign is certain against the score.",
        },
    ),
    "Greedy is off the score by {greedy_early:.2f} early and {greedy_late:.2f} late.",
    "Errors are at each state's best scale. Filled: tuned scale; hollow: the score's length; {measurements} "
    "measurements, 95% intervals (correlations: over operators); in panels by time the exact score stands elsewhere.",
)
TRUTHS = {"ideal": "ideal gradient", "score": "likelihood score"}
KINDS: dict[str, Any] = {"tuned": "-", "matched": (0, (1, 1))}
ESTIMATORS = ("greedy", "two_step_euler", "euler_4", "midpoint", "midpoint_4", "end_to_end", "pigdm", "tmpd")
ASIDE = ("pigdm", "tmpd")  # they aim at the score, and are not joined with the others
TIMES = ("early", "middle", "late")
ENOUGH = 4  # estimators: a correlation of fewer says nothing


@style.figure(legend=4)
def draw(tables: style.Tables) -> Figure:
    """Draw each operator's errors and outcomes for both truths, then errors, outcomes and correlations by time."""
    summary, ranks = tables["dial_summary"], tables["dial_correlation"]
    whole, thirds = (summary[(summary["end"] - summary["start"] == 1) == whole] for whole in (True, False))
    shown = style.operators(only(thirds, quantity="tuned"))
    shown = [operator for operator in shown if operator != "all"]
    places = [(truth, operator) for truth in TRUTHS for operator in shown]
    several = len(set(summary["estimator"]) & set(ESTIMATORS)) >= ENOUGH
    by_time = ranks[(ranks["end"] - ranks["start"] < 1) & (ranks["operator"] == "all")] if several else ranks[:0]
    errors = only(thirds, quantity="score_error", estimator="greedy")
    windows = only(thirds, operator="all", quantity="matched")
    late = [(_errors, errors), (_windows, windows), (_correlations, by_time)]
    late = [(draw_panel, rows) for draw_panel, rows in late if len(rows)]
    figure, axes = style.panels(len(places) + len(late), 3, 1.85, 0.8)
    for ax, (truth, operator) in zip(axes, places, strict=False):
        rank = only(ranks, truth=truth, kind="tuned", operator=operator, start=0.0, end=1.0)
        _paths(ax, only(whole, operator=operator), truth)
        note = f"\nρ = {rank['value'].iloc[0]:+.2f}".replace("-", "−") if several and len(rank) else ""
        ax.set_title(names.of("operators", operator) + note)
        ax.set(xlabel=f"error to {TRUTHS[truth]}", ylabel="energy distance")
        if operator != shown[0]:
            ax.set_ylabel("")
    for ax, (draw_panel, rows) in zip(axes[len(places) :], late, strict=True):
        draw_panel(ax, rows)
    return figure


def _look(estimator: str, kind: str = "tuned") -> style.Look:
    look = style.sampler(estimator) | {"linestyle": "none"}
    return style.hollow(look) if kind == "matched" else look


def _paths(ax: Axes, rows: pd.DataFrame, truth: str) -> None:
    errors = only(rows, quantity=f"{truth}_error").set_index("estimator")
    for kind, dash in KINDS.items():
        outcomes = only(rows, quantity=kind).set_index("estimator")
        there = [name for name in ESTIMATORS if name in outcomes.index and name in errors.index]
        joined = [name for name in there if name not in ASIDE]
        line = {"color": "0.6", "linestyle": dash, "linewidth": 0.8}
        ax.plot(errors.loc[joined, "mean"], outcomes.loc[joined, "mean"], **line)
        for name in there:
            x, row, look = errors.loc[name], outcomes.loc[name], _look(name, kind)
            label = names.sampler(name) if kind == "tuned" else None
            style.errorbars(ax, [row["mean"]], x, "mean", along="x", **look)
            style.errorbars(ax, [x["mean"]], row, "mean", label=label, **look)
    ax.axhline(0, **style.THEORY)


def _by_time(ax: Axes, starts: pd.Series, label: str) -> None:
    there = sorted({_place(start) for start in starts})
    style.ticks(ax.xaxis, there, [TIMES[i] for i in there])
    ax.set(xlim=(there[0] - 0.5, there[-1] + 0.5), ylabel=label)


def _place(start: float) -> int:
    """Return 0, 1 or 2 for a third of time."""
    return round(3 * start)


def _errors(ax: Axes, rows: pd.DataFrame) -> None:
    for operator, part in style.groups(rows.sort_values("start"), "operator"):
        look = {"linewidth": 1.4, "marker": "*", "markersize": 6} if operator == "all" else {"linewidth": 0.5}
        ax.plot(part["start"].map(_place), part["mean"], color=style.method("greedy")["color"], **look)
    _by_time(ax, rows["start"], "greedy's error to score")
    ax.set(ylim=(0, 1), yticks=(0, 0.25, 0.5, 0.75))  # the panel's letter stands beside 1


def _windows(ax: Axes, rows: pd.DataFrame) -> None:
    there = [name for name in ESTIMATORS if name in set(rows["estimator"])]
    for name, shift in zip(there, np.linspace(-0.35, 0.35, len(there)), strict=True):
        part = only(rows, estimator=name)
        style.errorbars(ax, part["start"].map(_place) + shift, part, "mean", **_look(name, "matched"))
    ax.axhline(0, **style.THEORY)
    _by_time(ax, rows["start"], "energy distance")


def _correlations(ax: Axes, rows: pd.DataFrame) -> None:
    for i, ((truth, kind), part) in enumerate(style.groups(rows, "truth", "kind")):
        look = style.marked(*style.TRUTHS[truth], hollow=kind == "matched")
        label = f"ρ, {TRUTHS[truth]}" if kind == "tuned" else None
        style.errorbars(ax, part["start"].map(_place) + (i - 1.5) * 0.15, part, label=label, **look)
    ax.axhline(0, **style.THEORY)
    _by_time(ax, rows["start"], "rank correlation ρ")
    ax.set(ylim=(-1.1, 1.1), yticks=(-1, 0, 1))
