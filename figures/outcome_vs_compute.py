"""Distance of guided samples to the exact posterior against compute."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("outcome_summary", "outcome_facts", "outcome_windows_facts")
QUESTION = "How near to the exact posterior do guided samplers come, and at what cost?"
answer = style.Caption(
    "Greedy closes {closed_low..closed_high:.0%} of the energy distance between unguided samples and the posterior.",
    "Its interval reaches the posterior in {reached} of {cases!p:case}.",
    style.choose(
        "pays",
        {
            "yes": "With equal steps, more of {further} dearer gradients come nearer than greedy ({better}) than stay "
            "farther off ({worse}).",
            "no": "With equal steps, more of {further} dearer gradients stay farther off than greedy ({worse}) than "
            "come nearer ({better}).",
            "even": "With equal steps, {better} of {further} dearer gradients come nearer than greedy, {worse} do not.",
        },
    ),
    style.choose(
        "costly",
        {
            "early": "In place of the exact score in a third of time greedy costs more early ({early:.2f}) than late "
            "({late:.2f}).",
            "late": "In place of the exact score in a third of time greedy costs more late ({late:.2f}) than early "
            "({early:.2f}).",
        },
    ),
    "{diverged!p:sample} diverged.",
    "Means over {measurements!p:measurement}, 95% intervals, noise {noise:g}; hollow: DPS steps.",
)
METRICS = {"energy_distance": "energy distance", "sliced_wasserstein": "sliced Wasserstein-2"}
LINEAR = 0.1  # below it the axis of the energy distance, which may be negative, is linear


@style.figure(legend=4)
def draw(tables: style.Tables) -> Figure:
    """Draw a row per distance and a column per operator, with the estimators of a rule as connected paths."""
    table = only(tables["outcome_summary"], noise=tables["outcome_facts"]["noise"].iloc[0])
    operators, work = style.operators(table), table["evaluations"] + table["vjps"]
    places = [(metric, operator) for metric in METRICS for operator in operators]
    figure, axes = style.panels(len(places), max(2, len(operators)), 2.1, 0.9)
    for i, (ax, (metric, operator)) in enumerate(zip(axes, places, strict=True)):
        _panel(ax, only(table, metric=metric, operator=operator))
        if metric == "energy_distance":
            ax.set_yscale("symlog", linthresh=LINEAR, linscale=0.5)
            style.ticks(ax.yaxis, [0, 0.1, 0.2, 0.5, 1, 2, 5, 10])
            ax.set_ylim(-LINEAR / 2, 1.5 * only(table, metric=metric)["high"].max())
        else:
            ax.set_yscale("log")
            style.plain(ax.yaxis)
        ax.set(xlabel="evaluations + products", title=names.of("operators", operator))
        if i % len(operators) == 0:
            ax.set_ylabel(METRICS[metric])
        style.doublings(ax.xaxis, work[work > 0])
    return figure


def _panel(ax: Axes, table: pd.DataFrame) -> None:
    table = table.assign(work=table["evaluations"] + table["vjps"])
    exact = only(table, estimator="exact").iloc[0]
    ax.axhspan(exact["low"], exact["high"], color="0.85", linewidth=0, zorder=0, label="exact samples")
    for rule, dash in style.RULES.items():
        path = only(table, family=rule).sort_values("work")
        more = path["estimator"].str.contains("greedy")
        line = {"linestyle": dash, "linewidth": 0.8, "zorder": 2}
        same_steps = path[~path["estimator"].str.endswith("greedy_more")]
        ax.plot(same_steps["work"], same_steps["mean"], color="0.6", **line)
        ax.plot(path[more]["work"], path[more]["mean"], color=style.method("greedy")["color"], **line)
    for name, row in style.groups(table[table["estimator"] != "exact"], "estimator"):
        same = name.startswith("dps:") and name != "dps:greedy"  # as with likelihood steps, but hollow
        label = None if same else names.sampler(name)
        look = style.sampler(name) | {"linestyle": "none", "zorder": 3}
        style.errorbars(ax, row["work"], row, "mean", label=label, **look)
