"""Guided samples of real held-out digits, every operator: distance to the exact posterior, beside unguided samples."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import latex as tex
from figures.style import names

TABLES = ("posterior_table_summary", "posterior_table_relative", "posterior_table_facts")
QUESTION = "Which guided samplers come near the exact posterior of real digits?"
answer = style.Caption(
    "Of unguided samples' energy distance to the posterior greedy leaves {digits_low..digits_high:.0%} on 8×8 digits.",
    "On MNIST it leaves {mnist_low..mnist_high:.0%}, in the median {mnist_median_low..mnist_median_high:.0%}.",
    "Without the exact score {best!g} is best most often ({wins} of {places}).",
    "Of {pairs!p:paired difference} to greedy {better} are better and {worse} worse.",
    "Along two paths {same_order} of {path_pairs} pairs keep their order.",
    "{lost!n} could not run.",
    "Noise {noise:g}; means (bars: medians) over unguided means, 95% intervals; truth: the mixture's posterior.",
)
METHODS = (
    "oracle_ode",
    "likelihood:greedy",
    "dps:greedy",
    "likelihood:pigdm",
    "likelihood:tmpd",
    "likelihood:dtmpd",
    "likelihood:lgd",
    "likelihood:identity_jacobian",
    "likelihood:two_step_euler",
    "likelihood:midpoint",
    "likelihood:adaptive",
    "likelihood:end_to_end",
    "mgps",
    "d_flow",
    "flowgrad",
    "oc_flow",
)
"""The methods from left to right."""
LINEAR = 0.02  # below it the axis, on which distances may be negative, is linear


@style.figure(legend=4)
def draw(tables: style.Tables) -> Figure:
    """Draw a panel per data set, with the operators side by side and the methods in the same order in each."""
    rows = _first_path(tables["posterior_table_relative"])
    rows = rows[rows["mean"].notna()]
    methods = [name for name in METHODS if name in set(rows["estimator"])]
    problems = list(style.groups(rows, "problem"))
    figure, axes = style.panels(len(problems), 1, 2.1, 0.8)
    for ax, (problem, group) in zip(axes, problems, strict=True):
        _panel(ax, group, methods)
        ax.set(title=names.of("problems", problem), ylabel="energy distance\n/ unguided")
    return figure


def _first_path(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the table's first path, the one that all methods were run on."""
    return only(table, path=table["path"].iloc[0])


def _panel(ax: Axes, table: pd.DataFrame, methods: list[str]) -> None:
    operators = style.operators(table)
    ax.set_yscale("symlog", linthresh=LINEAR, linscale=0.4)
    style.ticks(ax.yaxis, [0, LINEAR, 0.1, 0.5, 1, 2, 5, 10, 20])
    ax.axhline(1, label="unguided", **style.THEORY)
    ax.axhline(0, color="0.75", linewidth=0.6, zorder=0)
    places = {name: names.two_lines(names.of("operators", name)) for name in operators}
    for name, rows, x in style.side_by_side(ax, table, "operator", places, methods, reach=0.4, zorder=3):
        colour = style.sampler(name)["color"]
        ax.plot(x, rows["median"], "_", color=colour, markersize=5, zorder=2)  # a few images may rule a mean
    shown = only(table, estimator=methods)
    ax.set_ylim((min(-LINEAR / 2, shown["low"].min()), 1.5 * shown["high"].max()))
    ax.tick_params(axis="x", labelsize=7)


def latex(tables: style.Tables) -> dict[str, str]:
    """Build a LaTeX table per data set: a row per method, means over their intervals by operator.

    The best mean of the methods that do not know the exact score is bold.

    Returns
    -------
    dict
        From "posterior_table_DATASET" to LaTeX.
    """
    rows = _first_path(only(tables["posterior_table_summary"], metric="energy_distance"))
    return {f"posterior_table_{problem}": _table(problem, part) for problem, part in style.groups(rows, "problem")}


def _table(problem: str, rows: pd.DataFrame) -> str:
    operators = style.operators(rows)
    frame = pd.DataFrame(list(_lines(rows, operators)))
    caption = (
        f"Energy distance to the exact posterior, {names.of('problems', problem)}".replace("×", r"$\times$")
        + f", noise {rows['noise'].iloc[0]:g}: means over {int(rows['measurements'].max())} images with "
        r"95\,\% bootstrap intervals; the best mean without the exact score is bold."
    )
    return tex.table(frame, f"posterior_{problem}", caption, f"lrr{'c' * len(operators)}", plain=[""])


def _lines(rows: pd.DataFrame, operators: list[str]) -> Iterator[dict[str, str]]:
    guided = rows[~rows["family"].isin(["exact", "oracle"]) & rows["mean"].notna()]
    best = {operator: part["mean"].min() for operator, part in style.groups(guided, "operator")}
    for name, part in style.groups(rows, "estimator"):
        line = {"": names.sampler(name)}
        line |= {head: f"{part[key].mean():.0f}" for head, key in (("Eval.", "evaluations"), ("VJPs", "vjps"))}
        cells = part.set_index("operator")
        for operator in operators:
            head = names.two_lines(names.of("operators", operator))
            if operator not in cells.index:
                line[head] = ""
            else:
                row = cells.loc[operator]
                bold = row["mean"] == best.get(operator) and row["family"] not in ("exact", "oracle")
                line[head] = tex.interval(row["mean"], row["low"], row["high"], bold=bold)
        yield line
