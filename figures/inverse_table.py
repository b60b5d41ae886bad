"""PSNR of restored digits, methods by operators, and the order of the dial by gradient error against that by PSNR."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from analysis.tables import only
from figures import style
from figures.style import latex as tex
from figures.style import looks, names

PARTS = ("summary", "paired", "dial", "ranks", "facts")
TABLES = tuple(f"inverse_{part}" for part in PARTS)
QUESTION = "Which method restores best under one budget, and does a more accurate gradient restore better?"
answer = style.Caption(
    "{best!n} has the best PSNR on {wins} of {operators!p:operator}.",
    "Of {pairs!p:paired difference} to greedy {better} are better and {worse} worse (coloured).",
    "The rank correlation of gradient accuracy and PSNR is {dial:.2f} [{dial_low:.2f}, {dial_high:.2f}] under one "
    "budget.",
    "With equal steps it is {equal_steps:.2f} [{equal_steps_low:.2f}, {equal_steps_high:.2f}].",
    "{refused!n} cannot run on {refused_on!p:operator}.",
    "Means over {images!p:held-out image}, {budget} evaluations and products, noise {noise:g}; hyper-parameters were "
    "chosen on others. Stars: some failed. Bars: 95 % intervals.",
)
METRICS = {"psnr": ("PSNR in dB", 1), "ssim": ("SSIM", 2), "label": ("share of digits named rightly", 2)}
METRICS |= {"misfit": (r"misfit $\chi^2/m$", 1)}
METHODS = style.RESTORATION
FAMILIES = {"dial": "one budget", "equal_steps": "equal steps"}
SHADES = {"better than greedy": looks.BLUE, "worse than greedy": looks.ORANGE}


@style.figure(letters=False)
def draw(tables: style.Tables) -> Figure:
    """Draw PSNR as a table of methods by operators and, below it, the two orders of the dial where there are any."""
    summary, ranks = only(tables["inverse_summary"], metric="psnr"), tables["inverse_ranks"]
    methods, operators = _there(summary), style.operators(summary)
    heights = [0.17 * len(methods) + 0.75, *([2.3] if len(ranks) else [])]
    figure = plt.figure(figsize=(style.TEXT_WIDTH, sum(heights)))
    parts = np.ravel(np.asarray(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)))
    grid = parts[0].subplots()
    _grid(grid, summary, only(tables["inverse_paired"], metric="psnr"), methods, operators)
    patches = [Patch(color=_tint(colour), label=name) for name, colour in SHADES.items()]
    parts[0].legend(handles=patches, loc="outside lower center", ncols=2)
    if len(ranks):
        lower = list(parts[1].subplots(1, 3))
        _scatters(lower[:2], tables["inverse_dial"])
        _ranks(lower[2], ranks, operators)
        style.shared_legend(parts[1], 4)
        style.letter([grid, *lower])
    return figure


def _there(summary: pd.DataFrame) -> list[str]:
    return [name for name in METHODS if name in set(summary["estimator"])]


def _tint(colour: str) -> tuple[float, float, float]:
    red, green, blue = (0.65 + 0.35 * part for part in to_rgb(colour))
    return red, green, blue


def _grid(ax: Axes, summary: pd.DataFrame, paired: pd.DataFrame, methods: list[str], operators: list[str]) -> None:
    """Print means: bold for an operator's best, tinted where the interval of the difference to greedy excludes 0."""
    means, pairs = (t.set_index(["operator", "estimator"]) for t in (summary, paired))
    for j, operator in enumerate(operators):
        best = means.loc[operator].reindex(methods)["mean"].drop("measurement", errors="ignore").max()
        for i, name in enumerate(methods):
            if (operator, name) not in means.index:
                continue
            row, pair = means.loc[(operator, name)], pairs.loc[(operator, name)]
            shade = "better than greedy" if pair["low"] > 0 else "worse than greedy" if pair["high"] < 0 else None
            if shade:
                ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, color=_tint(SHADES[shade]), linewidth=0))
            text = (f"{row['mean']:.1f}" if np.isfinite(row["mean"]) else "–") + "*" * bool(row["failed"])
            weight = "bold" if row["mean"] == best else "normal"
            ax.text(j, i, text, ha="center", va="center", fontsize=style.SMALL, fontweight=weight)
    ax.set(xlim=(-0.5, len(operators) - 0.5), ylim=(len(methods) - 0.5, -0.5), ylabel="PSNR, dB")
    style.ticks(ax.yaxis, range(len(methods)), [names.sampler(name) for name in methods])
    shown = [names.two_lines(names.of("operators", o)) for o in operators]
    style.ticks(ax.xaxis, range(len(operators)), shown, fontsize=7)
    ax.tick_params(length=0, labeltop=True, labelbottom=False, pad=2)
    ax.spines[:].set_visible(False)


def _scatters(axes: list[Axes], dial: pd.DataFrame) -> None:
    """Draw PSNR, less its mean over estimators, against the median gradient error, by family."""
    for ax, (family, title) in zip(axes, FAMILIES.items(), strict=True):
        for name, rows in style.groups(only(dial, family=family), "estimator"):
            look = style.sampler(name) | {"linestyle": "none", "alpha": 0.85}
            ax.plot(rows["error"], rows["psnr_less_mean"], label=names.sampler(name), **look)
        ax.axhline(0, **style.THEORY)
        ax.set(xscale="log", xlabel="gradient error, median", title=title)
        style.plain(ax.xaxis)
    axes[0].set_ylabel("PSNR less mean of\nestimators, dB")


def _ranks(ax: Axes, ranks: pd.DataFrame, operators: list[str]) -> None:
    """Draw Spearman's correlation with its interval, by operator and family."""
    shown = [*operators, "all"]
    for k, (family, rows) in enumerate(style.groups(ranks, "family")):
        y = rows["operator"].map(shown.index) + (k - 0.5) * 0.3
        look: dict[str, Any] = style.marked("0.2", "^v"[k], hollow=k > 0)
        style.errorbars(ax, y, rows, "spearman", along="x", label=f"ρ, {FAMILIES[family]}", **look)
    ax.axvline(0, **style.THEORY)
    style.rows_of_names(ax, [names.of("operators", o) for o in shown])
    ax.tick_params(axis="y", labelsize=7)
    ax.set(xlim=(-1.05, 1.05), xlabel="rank correlation ρ")


def latex(tables: style.Tables) -> dict[str, str]:
    """Return a table per metric, a row per method: means above their intervals by operator, the best PSNR bold."""
    summary = tables["inverse_summary"]
    return {f"inverse_{metric}": _table(metric, only(summary, metric=metric)) for metric in METRICS}


def _table(metric: str, summary: pd.DataFrame) -> str:
    (title, digits), operators = METRICS[metric], style.operators(summary)
    means, lines = summary.set_index(["operator", "estimator"]), []
    for name in _there(summary):
        line = {"": names.sampler(name)}
        for operator in operators:
            head, there = names.two_lines(names.of("operators", operator)), (operator, name) in means.index
            row = means.loc[(operator, name)] if there else {}
            line[head] = tex.interval(row["mean"], row["low"], row["high"], digits) if there else ""
        lines.append(line)
    caption = f"Restored digits: {title}, means over {int(summary['measurements'].max())} images with "
    caption += r"95\,\% bootstrap intervals."
    return tex.table(pd.DataFrame(lines), f"inverse_{metric}", caption, f"l{'c' * len(operators)}", plain=[""])
