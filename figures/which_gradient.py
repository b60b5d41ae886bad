"""The gradient to use in each regime at each budget, and which error of a gradient goes with its outcome."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import latex as tex
from figures.style import names

TABLES = ("which_gradient_recommended", "which_gradient_correlation", "which_gradient_facts")
QUESTION = "Which gradient should one use, in which regime, at which budget?"
answer = style.Caption(
    "In the source at {budget} evaluations and products take {source_misfit_best!g}: {source_misfit_ratio:.2g} of "
    "greedy's misfit.",
    "On other operators and images the rule's outcome is {source_greedy_mean:.2f} [{source_greedy_low:.2f}, "
    "{source_greedy_high:.2f}] of always greedy's in the source (late {source_late_greedy_mean:.2f}), "
    "{guidance_greedy_mean:.2f} per step (by an optimiser {steps_greedy_mean:.2f}), "
    "{controls_greedy_mean:.2f} in controls.",
    "a, b: best gradient, outcome over greedy's (geometric mean, {operators!p:operator}; misfits are at least 1, "
    "distances 0.05; bold: interval below 1).",
    "c, d: Spearman's, 95% intervals; none where outcomes tie.",
)
AIMS = {"misfit": "misfit", "energy_distance": "distance to the posterior"}
TRUTHS = {"ideal": ("error to the ideal gradient", -0.12), "score": ("error to the likelihood score", 0.12)}


@style.figure(legend=3)
def draw(tables: style.Tables) -> Figure:
    """Draw a column per aim: recommendations by regime and budget above, correlations by regime below."""
    chosen, ranks = (tables[f"which_gradient_{part}"] for part in ("recommended", "correlation"))
    aims = [aim for aim in AIMS if aim in set(chosen["aim"])]
    regimes = [regime for regime in names.REGIMES if regime in set(chosen["regime"])]
    rows = 1 + bool(len(ranks))
    figure, axes = style.panels(rows * len(aims), len(aims), 2.2, 0.7, sharey=True)
    for ax, aim in zip(axes, aims, strict=False):
        _recommended(ax, only(chosen, aim=aim), regimes)
        ax.set(title=f"tuned for the {AIMS[aim]}", xlabel="evaluations + products")
    for ax, aim in zip(axes[len(aims) :], aims, strict=False):
        _correlations(ax, only(ranks, aim=aim), regimes)
        ax.set_title(f"error and {AIMS[aim]}")
    return figure


def _recommended(ax: Axes, table: pd.DataFrame, regimes: list[str]) -> None:
    for name, rows in style.groups(table, "estimator"):
        heights = rows["regime"].map(regimes.index)
        look = style.sampler(name) | {"linestyle": "none", "markersize": 6}
        ax.plot(rows["budget"], heights, label=names.sampler(name), **look)
    for row in table.dropna(subset="mean").to_dict("records"):
        weight = "bold" if row["high"] < 1 else "normal"
        where: style.Look = {"textcoords": "offset points", "ha": "center", "va": "top", "fontsize": 7}
        where |= {"fontweight": weight}
        ax.annotate(f"{row['mean']:.2g}", (row["budget"], regimes.index(row["regime"])), (0, -5), **where)
    ax.set_xscale("log")
    style.ticks(ax.xaxis, sorted(set(table["budget"])))
    ax.margins(x=0.12)
    style.rows_of_names(ax, [names.two_lines(names.of("regimes", regime)) for regime in regimes])


def _correlations(ax: Axes, table: pd.DataFrame, regimes: list[str]) -> None:
    for truth, (label, offset) in TRUTHS.items():
        rows = only(table, truth=truth)
        look = style.marked(*style.TRUTHS[truth]) | {"label": label}
        style.errorbars(ax, rows["regime"].map(regimes.index) + offset, rows, "mean", along="x", **look)
    ax.axvline(0, **style.THEORY)
    ax.set(xlim=(-1.12, 1.12), xlabel="rank correlation")
    style.rows_of_names(ax, [names.two_lines(names.of("regimes", regime)) for regime in regimes])


def latex(tables: style.Tables) -> dict[str, str]:
    """Return the recommendations by aim and budget and, if there are any, the correlations, a column per regime."""
    chosen, ranks = (tables[f"which_gradient_{part}"] for part in ("recommended", "correlation"))
    caption = (
        "Recommended gradients by regime and budget of evaluations and products, and their outcomes over greedy's: "
        rf"geometric means over {int(chosen['operators'].max())} operators with 95\,\% intervals."
    )
    made = {"which_gradient": _table("which_gradient", caption, chosen, "budget")}
    if len(ranks):
        caption = (
            "Rank correlation over gradients of the error, to the ideal gradient or to the likelihood score, and the "
            rf"outcome: means over {int(ranks['operators'].max())} operators with 95\,\% intervals."
        )
        made["which_gradient_correlation"] = _table("which_gradient_correlation", caption, ranks, "truth")
    return made


def _table(name: str, caption: str, table: pd.DataFrame, second: str) -> str:
    regimes = [regime for regime in names.REGIMES if regime in set(table["regime"])]
    lines = []
    for (aim, value), rows in style.groups(table.sort_values(["aim", second], ascending=[False, True]), "aim", second):
        line = {"Outcome": style.OUTCOMES[aim], second.capitalize(): _second(value)}
        cells = {row["regime"]: _cell(row) for row in rows.to_dict("records")}
        lines.append(line | {names.two_lines(names.of("regimes", regime)): cells.get(regime, "") for regime in regimes})
    columns = f"ll{'c' * len(regimes)}"
    return tex.table(pd.DataFrame(lines), name, caption, columns, plain=["Outcome"])


def _second(value: Any) -> str:
    """Return a budget, or the name of what the error is to."""
    return names.of("methods", value) if isinstance(value, str) else f"{value:.0f}"


def _cell(row: dict[Any, Any]) -> str:
    """Return a correlation, or the recommended estimator and, unless it is greedy, its ratio, above the interval."""
    if row.get("estimator") == "greedy":
        return names.sampler("greedy")
    shown = tex.interval(row["mean"], row["low"], row["high"])
    return tex.stacked(names.sampler(row["estimator"]), shown) if "estimator" in row else shown
