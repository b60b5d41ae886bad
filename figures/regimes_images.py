"""Restored digits: PSNR of every gradient in every regime by operator, misfits by regime, and what predicts them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.tables import only
from figures import style
from figures.style import latex as tex
from figures.style import names

TABLES = tuple(f"regimes_images_{part}" for part in ("best", "pooled", "correlation", "facts"))
QUESTION = "Which gradient restores best with a learned flow, in which regime, at its best budget?"
answer = style.Caption(
    "{best!g} ({best_regime!n}) has the best PSNR on {wins} of {operators!p:operator}.",
    style.choose(
        "source_misfit_order",
        {
            "end": "In source optimisation end-to-end fits better than greedy (χ²/m {source_misfit_end_to_end:.2g} and "
            "{source_misfit_greedy:.2g}).",
            "greedy": "In source optimisation greedy fits better than end-to-end (χ²/m {source_misfit_greedy:.2g} and "
            "{source_misfit_end_to_end:.2g}).",
        },
    ),
    style.choose(
        "guidance_psnr_order",
        {
            "end": "Per step end-to-end restores better ({guidance_psnr_end_to_end:.1f} dB; greedy "
            "{guidance_psnr_greedy:.1f} dB).",
            "greedy": "Per step greedy restores better ({guidance_psnr_greedy:.1f} dB; end-to-end "
            "{guidance_psnr_end_to_end:.1f} dB).",
        },
    ),
    "a: medians over {images!p:held-out image}; bold: best; *: some diverged. b: geometric means of medians. "
    "c: Spearman's correlation, positive where smaller errors go with better outcomes. 95% "
    "intervals over operators; at most {budget} evaluations and products.",
)
ORDER = ("guidance", "steps", "source", "source_late", "controls", "published")
AIMS = {"misfit": ("misfit", -0.12, ("0.2", "^")), "psnr": ("PSNR", 0.12, ("0.55", "v"))}
METRICS = {"psnr": ("PSNR in dB", 1), "ssim": ("SSIM", 2), "label": ("share of digits named rightly", 2)}
METRICS |= {"misfit": (r"misfit $\chi^2/m$", 1)}


@style.figure(letters=False)
def draw(tables: style.Tables) -> Figure:
    """Draw PSNR as a table of methods by operators and, below it, misfits and correlations by regime."""
    best, ranks = tables["regimes_images_best"], tables["regimes_images_correlation"]
    rows, operators = list(_methods(best)), style.operators(best)
    heights = [0.17 * len(rows) + 0.75, 2.8]
    figure = plt.figure(figsize=(style.TEXT_WIDTH, sum(heights)))
    parts = np.ravel(np.asarray(figure.subfigures(2, 1, height_ratios=heights, squeeze=False)))
    grid = parts[0].subplots()
    _grid(grid, best, rows, operators)
    lower = list(np.ravel(parts[1].subplots(1, 1 + bool(len(ranks)))))
    _misfits(lower[0], only(tables["regimes_images_pooled"], aim="misfit"))
    if len(ranks):
        _correlations(lower[1], ranks)
    style.shared_legend(parts[1], 4)
    style.letter([grid, *lower])
    return figure


def _methods(best: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yield the regime and the name of each method, in the table's order; references come first."""
    there = best[best["metric"] == "psnr"].drop_duplicates(["regime", "estimator"])
    for regime in ("references", *ORDER):
        for name in (*style.RESTORATION, *there["estimator"]):
            if ((there["regime"] == regime) & (there["estimator"] == name)).any():
                there = there[(there["regime"] != regime) | (there["estimator"] != name)]
                yield regime, name


def _psnr(best: pd.DataFrame) -> pd.DataFrame:
    return only(best[best["aim"].isin(["psnr", "none"])], metric="psnr")


def _label(regime: str, name: str) -> str:
    if regime in names.REGIMES:
        return f"{names.of('regimes', regime)}: {names.sampler(name)}"
    return names.sampler(name)


def _grid(ax: Axes, best: pd.DataFrame, rows: list[tuple[str, str]], operators: list[str]) -> None:
    """Print medians over images; bold on grey for an operator's best method."""
    values = _psnr(best).set_index(["operator", "regime", "estimator"])[["median", "failed"]]
    for j, operator in enumerate(operators):
        column = values.loc[operator]
        own = (column.index.get_level_values("regime") != "references") & (column["failed"] == 0)
        top = round(column.loc[own, "median"].max(), 1)  # of those over all images; equal as printed is equal
        for i, row in enumerate(rows):
            if (operator, *row) not in values.index:
                continue
            median, failed = values.loc[(operator, *row)]
            text = (f"{median:.1f}" if np.isfinite(median) else "–") + "*" * bool(failed)
            won = round(median, 1) == top and not failed and row[0] != "references"
            ax.text(j, i, text, ha="center", va="center", fontweight="bold" if won else "normal", fontsize=7)
            if won:
                ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, color="0.9", linewidth=0))
    ax.set(xlim=(-0.5, len(operators) - 0.5), ylim=(len(rows) - 0.5, -0.5), ylabel="PSNR, dB")
    style.ticks(ax.yaxis, range(len(rows)), [_label(*row) for row in rows], fontsize=7)
    shown = [names.two_lines(names.of("operators", o)).replace(" ×", "\n×") for o in operators]
    style.ticks(ax.xaxis, range(len(operators)), shown, fontsize=7)
    ax.tick_params(length=0, labeltop=True, labelbottom=False, pad=2)
    ax.spines[:].set_visible(False)


def _regimes(table: pd.DataFrame) -> list[str]:
    return [regime for regime in names.REGIMES if regime in set(table["regime"])]


def _misfits(ax: Axes, table: pd.DataFrame) -> None:
    regimes = _regimes(table)
    table = table[table["regime"].isin(regimes)]
    there = [name for name in style.RESTORATION if name in set(table["estimator"])]
    for name, shift in zip(there, np.linspace(-0.32, 0.32, len(there)), strict=True):
        part = only(table, estimator=name)
        look = style.sampler(name) | {"linestyle": "none", "label": names.sampler(name)}
        style.errorbars(ax, part["regime"].map(regimes.index) + shift, part, "mean", along="x", **look)
    ax.axvline(1, **style.THEORY)
    ax.set(xscale="log", xlabel="misfit χ²/m, at least 1")
    style.rows_of_names(ax, [names.two_lines(names.of("regimes", r)) for r in regimes])


def _correlations(ax: Axes, table: pd.DataFrame) -> None:
    regimes = _regimes(table)
    for aim, (label, offset, mark) in AIMS.items():
        rows = only(table, aim=aim)
        rows = rows[rows["regime"].isin(regimes)]
        look = style.marked(*mark) | {"label": f"ρ, {label}"}
        style.errorbars(ax, rows["regime"].map(regimes.index) + offset, rows, "mean", along="x", **look)
    ax.axvline(0, **style.THEORY)
    ax.set(xlim=(-1.05, 1.05), xlabel="rank correlation ρ of error and outcome")
    style.rows_of_names(ax, [names.two_lines(names.of("regimes", r)) for r in regimes])


def latex(tables: style.Tables) -> dict[str, str]:
    """Return a table per metric, a row per method: medians by operator at the best budget, the best PSNR bold."""
    best = tables["regimes_images_best"]
    return {f"regimes_images_{metric}": _table(metric, best) for metric in METRICS}


def _table(metric: str, best: pd.DataFrame) -> str:
    (title, digits), operators = METRICS[metric], style.operators(best)
    own = best[best["aim"].isin(["misfit" if metric == "misfit" else "psnr", "none"])]
    values, lines = only(own, metric=metric).set_index(["operator", "regime", "estimator"])["median"], []
    for regime, name in _methods(best):
        line = {"Regime": names.of("regimes", regime) if regime in names.REGIMES else "", "": names.sampler(name)}
        for operator in operators:
            value = values.get((operator, regime, name), np.nan)
            head = names.two_lines(names.of("operators", operator))
            line[head] = tex.number(value, f".{digits}f") if np.isfinite(value) else "–"
        lines.append(line)
    count = int(best["images"].max())
    caption = f"Restored digits: {title}, medians over {count} held-out images, each method at its best budget."
    return tex.table(
        pd.DataFrame(lines), f"regimes_images_{metric}", caption, f"ll{'c' * len(operators)}", plain=["", "Regime"]
    )
