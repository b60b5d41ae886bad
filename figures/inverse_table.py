"""Metrics of restored digits, methods by operators, and the order of the dial by gradient error beside that by PSNR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from figures import style
from figures.inverse_problems import LARGE, NAMES, OPERATORS

PARTS = ("summary", "paired", "dial", "ranks")
TABLES = ("inverse", *(f"inverse_{part}" for part in PARTS))
QUESTION = "Which method restores best under one budget, and does a more accurate gradient restore better?"
Tables = Mapping[str, pd.DataFrame]
METRICS = {"psnr": "PSNR, dB", "ssim": "SSIM", "label": "digit", "misfit": "misfit"}
DIGITS = {"psnr": 1, "ssim": 2, "label": 2, "misfit": 1}
FIRST, ROW, HEADER = "psnr", 0.115, 0.25  # the panel with the operators' names; heights in inches
COLOURED = ("psnr", "ssim", "label")  # of the misfit neither more nor less is better, but 1
BETTER, WORSE = style.BLUE, style.ORANGE
FAMILIES = {"dial": "one budget", "equal_steps": "equal steps"}
DIAL: dict[str, dict[str, Any]] = {
    "greedy": style.method("greedy") | {"markersize": 6},
    "two_step_euler": style.method("end_to_end", "euler"),
    "midpoint": style.method("end_to_end", "midpoint"),
    "lookahead": style.method("lookahead", "euler"),
    "adaptive": style.method("adaptive") | {"markersize": 5},
    "dto": style.method("end_to_end"),
}


def label(name: str) -> str:
    """Return the name of a method on one line."""
    return NAMES[name].replace("-\n", "").replace("\n", " ")


def place(operator: str) -> str:
    """Return the name of an operator on one line."""
    return OPERATORS[operator].replace("\n", " ")


def answer(tables: Tables) -> str:
    """Name the best methods, what beats greedy, what failed, and how well accuracy predicts PSNR."""
    found, table = tables["inverse_summary"], tables["inverse"]
    clean = found[(found["estimator"] == "clean") & (found["metric"] == "label")]["mean"].iloc[0]
    images = int(found["measurements"].max())
    return (
        f"{_winners(found)} {_against_greedy(tables['inverse_paired'])}{_order(tables)}"
        f"Means over {images} held-out images and half-widths of 95 % bootstrap intervals; blue and orange cells "
        "differ from greedy by a paired interval that leaves zero out. Each method's one hyper-parameter was chosen "
        f"by mean PSNR on other images; budget {table['budget'].iloc[0]:g} evaluations and products, noise "
        f"{table['noise'].iloc[0]:g}. Digit is the share of images in which the classifier names the true digit "
        f"({clean:.0%} for clean images), misfit chi^2/m. A star marks means without some that failed. "
        f"{_failures(found)}"
    )


def _methods(found: pd.DataFrame) -> list[str]:
    return [name for name in NAMES if name != "clean" and name in set(found["estimator"])]


def _winners(found: pd.DataFrame) -> str:
    rows = found[(found["metric"] == "psnr") & found["estimator"].isin(_methods(found)) & np.isfinite(found["mean"])]
    rows = rows[rows["estimator"] != "measurement"]
    best = rows.loc[rows.groupby("operator", sort=False)["mean"].idxmax()]
    parts = [
        f"{place(str(r.operator))}: {label(str(r.estimator))}, {r.mean:.1f} ({r.low:.1f} to {r.high:.1f})"
        for r in best.itertuples()
    ]
    return f"Best PSNR in dB: {'; '.join(parts)}."


def _against_greedy(paired: pd.DataFrame) -> str:
    """Say on how many operators each other method has a better or worse PSNR than greedy, in pairs."""
    rows = paired[(paired["metric"] == "psnr") & paired["estimator"].isin(_methods(paired))]
    parts = []
    for name, part in rows.groupby("estimator", sort=False):
        if name not in ("greedy", "measurement"):
            parts.append(f"{label(str(name))} {int((part['low'] > 0).sum())}/{int((part['high'] < 0).sum())}")
    return (
        f"Operators, of {rows['operator'].nunique()}, on which PSNR is better/worse than greedy's: {', '.join(parts)}. "
    )


def _order(tables: Tables) -> str:
    """Say how the two orders of the estimators agree."""
    ranks = tables["inverse_ranks"]
    rows = ranks[ranks["operator"] == "all"].set_index("family")
    if rows.empty:
        return ""
    parts = [
        f"{rows.loc[family, 'spearman']:.2f} ({rows.loc[family, 'low']:.2f} to {rows.loc[family, 'high']:.2f}) {when}"
        for family, when in (("dial", "under one budget"), ("equal_steps", "with equal numbers of steps"))
    ]
    errors = tables["inverse_dial"].groupby("estimator", sort=False)["error"].median()
    medians = ", ".join(f"{label(str(name))} {value:.2f}" for name, value in errors.items())
    return (
        f"Spearman's correlation of the estimators' gradient accuracy with their PSNR, averaged over operators: "
        f"{' and '.join(parts)}. Median relative gradient errors: {medians}. "
    )


def _failures(found: pd.DataFrame) -> str:
    lost = found[(found["metric"] == "psnr") & (found["failed"] > 0) & found["estimator"].isin(_methods(found))]
    diverged = lost[lost["status"].str.startswith("diverged")]
    parts = [f"{int(diverged['failed'].sum())} samples diverged"]
    refused = lost[~lost["status"].str.startswith("diverged")].groupby("estimator", sort=False)["operator"].agg(list)
    for name, operators in refused.items():
        listed = ", ".join(place(o) for o in operators)
        parts.append(f"{label(str(name))} cannot run on {listed}")
    return f"{'; '.join(parts)}."


def draw(tables: Tables) -> Figure:
    """Draw a table of methods by operators for each metric, and below them the two orders."""
    style.apply()
    found, with_ranks = tables["inverse_summary"], not tables["inverse_ranks"].empty
    rows = len(_methods(found))
    heights = [0.2 + ROW * rows + (metric == FIRST) * HEADER for metric in METRICS] + [2.1] * with_ranks
    figure = plt.figure(figsize=(style.TEXT_WIDTH, sum(heights) + 0.2))
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    axes = [part.subplots() for part in parts[: len(METRICS)]]
    for ax, metric in zip(axes, METRICS, strict=True):
        _grid(ax, tables, metric, header=metric == FIRST)
    looks = {"better than greedy": BETTER, "worse": WORSE}
    patches = [Patch(color=_tint(colour), label=name) for name, colour in looks.items()]
    figure.legend(handles=patches, loc="outside upper right", ncols=2)
    if with_ranks:
        lower = list(parts[-1].subplots(1, 3, width_ratios=[1, 1, 0.9]))
        _scatters(lower[:2], tables["inverse_dial"])
        _ranks(lower[2], tables["inverse_ranks"])
        handles = [Line2D([], [], linestyle="", label=label(name), **look) for name, look in DIAL.items()]
        parts[-1].legend(handles=handles, loc="outside lower center", ncols=6, columnspacing=1, handletextpad=0.2)
        style.finish(figure, lower)
        lower[2].set_title("c", loc="left", fontweight="bold", x=-0.75)
    return figure


def _tint(colour: str) -> tuple[float, float, float]:
    red, green, blue = (0.65 + 0.35 * part for part in to_rgb(colour))
    return red, green, blue


def _grid(ax: Axes, tables: Tables, metric: str, header: bool) -> None:
    """Print means and half-widths of intervals, tinted where the difference to greedy is told from zero."""
    keys = ["operator", "estimator"]
    found, paired = (t[t["metric"] == metric].set_index(keys) for t in (tables[n] for n in TABLES[1:3]))
    names = _methods(tables["inverse_summary"])
    operators = [name for name in OPERATORS if name in set(tables["inverse_summary"]["operator"])]
    for j, operator in enumerate(operators):
        best = found.loc[operator].reindex(names)["mean"].drop("measurement").max()
        for i, name in enumerate(names):
            row, pair = found.loc[(operator, name)], paired.loc[(operator, name)]
            colour = BETTER if pair["low"] > 0 else WORSE if pair["high"] < 0 else None
            if colour and metric in COLOURED:
                ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, color=_tint(colour), linewidth=0))
            weight = "bold" if row["mean"] == best and metric in COLOURED else "normal"
            ax.text(j, i, _cell(row, metric), ha="center", va="center", fontsize=5.5, fontweight=weight)
    ax.set(xlim=(-0.5, len(operators) - 0.5), ylim=(len(names) - 0.5, -0.5))
    ax.set_yticks(range(len(names)), [label(name) for name in names], fontsize=6)
    ax.set_xticks(range(len(operators)), [OPERATORS[o] for o in operators] if header else [], fontsize=6)
    ax.tick_params(length=0, labeltop=True, labelbottom=False, pad=2)
    ax.spines[:].set_visible(False)
    above: dict[str, Any] = {"xytext": (-2, 2), "textcoords": "offset points", "ha": "right", "va": "bottom"}
    ax.annotate(METRICS[metric], (0, 1), xycoords="axes fraction", fontsize=6, fontweight="bold", **above)


def _cell(row: pd.Series, metric: str) -> str:
    if not np.isfinite(row["mean"]):
        return "–"
    digits = 0 if metric == "misfit" and row["mean"] >= LARGE else DIGITS[metric]
    text = f"{row['mean']:.{digits}f}±{(row['high'] - row['low']) / 2:.{digits}f}"
    return text + ("*" if row["failed"] else "")


def _scatters(axes: list[Axes], dial: pd.DataFrame) -> None:
    """Draw PSNR, relative to its mean over estimators, against the median gradient error, by family."""
    for ax, (family, title) in zip(axes, FAMILIES.items(), strict=True):
        part = dial[dial["family"] == family]
        centre = part.groupby("operator")["psnr"].transform("mean")
        for name, look in DIAL.items():
            rows = part[part["estimator"] == name]
            ax.plot(rows["error"], (part["psnr"] - centre)[rows.index], linestyle="", alpha=0.85, **look)
        ax.axhline(0, **style.THEORY)
        ax.set(xscale="log", xlabel="gradient error, median")
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        ax.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_title(title, fontsize=7, loc="right")
    axes[0].set_ylabel("PSNR less mean\nof estimators, dB")


def _ranks(ax: Axes, ranks: pd.DataFrame) -> None:
    """Draw Spearman's correlation with its interval, by operator and family."""
    names = [*(name for name in OPERATORS if name in set(ranks["operator"])), "all"]
    for k, family in enumerate(FAMILIES):
        rows = ranks[ranks["family"] == family].set_index("operator").loc[names]
        y = np.arange(len(names)) + (k - 0.5) * 0.3
        bars = [rows["spearman"] - rows["low"], rows["high"] - rows["spearman"]]
        look = {"color": style.series(k)["color"], "marker": style.series(k)["marker"], "linestyle": ""}
        ax.errorbar(rows["spearman"], y, xerr=np.maximum(bars, 0), elinewidth=0.7, label=FAMILIES[family], **look)
    ax.axvline(0, **style.THEORY)
    ax.set_yticks(range(len(names)), ["all" if name == "all" else place(name) for name in names], fontsize=5.5)
    ax.set(xlim=(-1.05, 1.05), ylim=(len(names) - 0.5, -0.5), xlabel="Spearman's ρ")
    ax.legend(loc="lower center", bbox_to_anchor=(0.4, 1), ncols=2, fontsize=6, columnspacing=0.8, handletextpad=0.2)
