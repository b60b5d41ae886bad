"""Lookahead error over steps and horizon."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from figures import style

TABLES = ("lookahead_surface", "lookahead_surface_best")
QUESTION = "At a fixed budget of evaluations, how far should one look ahead before projecting?"
Tables = Mapping[str, pd.DataFrame]


def answer(tables: Tables) -> str:
    """Say where the best horizons lie."""
    best = tables["lookahead_surface_best"]
    parts = []
    for solver, rows in best.groupby("solver"):
        short = rows[rows["horizon"] < 1]
        parts.append(
            f"with {solver}, the best horizon stops short of t = 1 for {len(short)} of {len(rows)} step counts"
            + (f" (it grows from {short['horizon'].min():.2f} of the way)" if len(short) else "")
        )
    return (
        "Not always to the end: "
        + "; ".join(parts)
        + ". White lines join cells of equal cost in evaluations, dots mark "
        "the best horizon for each number of steps; horizon 0 is greedy, 1 is end-to-end. Colour is the median error."
    )


def draw(tables: Tables) -> Figure:
    """Draw one panel per problem and solver, error as colour over (horizon, steps)."""
    style.apply()
    table = tables["lookahead_surface"]
    table = table[table["metric"] == "relative_error"]
    problems, solvers = (list(dict.fromkeys(table[name])) for name in ("problem", "solver"))
    size = (style.TEXT_WIDTH, 1.75 * len(solvers) + 0.35)
    figure, axes = plt.subplots(len(solvers), len(problems), figsize=size, squeeze=False, sharex=True, sharey=True)
    norm = LogNorm(max(table["value"].min(), 1e-5), table["value"].max())
    for i, solver in enumerate(solvers):
        for j, problem in enumerate(problems):
            rows = table[(table["problem"] == problem) & (table["solver"] == solver)]
            _panel(axes[i, j], rows, norm)
            axes[i, j].set_title(f"{problem}, {solver}", fontsize=7, loc="right")
    for ax in axes[-1]:
        ax.set_xlabel("horizon (fraction of 1 − t)")
    for ax in axes[:, 0]:
        ax.set_ylabel("steps")
    bar = figure.colorbar(ScalarMappable(norm, "viridis"), ax=axes, label="relative error", fraction=0.05, pad=0.01)
    bar.outline.set_visible(False)
    return style.finish(figure, list(axes.ravel()))


def _panel(ax: Axes, rows: pd.DataFrame, norm: LogNorm) -> None:
    value = rows.pivot(index="steps", columns="horizon", values="value")
    cost = rows.pivot(index="steps", columns="horizon", values="evaluations")
    steps, x = np.log2(value.index.to_numpy(float)), value.columns.to_numpy(float)
    ax.pcolormesh(x, steps, value, norm=norm, cmap="viridis", shading="nearest", rasterized=True)
    inside = cost.iloc[:, 1:]  # horizon 0 takes no steps, whatever their number
    levels = [3, 5, 9, 17, 33, 65]
    lines = ax.contour(inside.columns, steps, inside, levels=levels, colors="white", linewidths=0.6)
    corners = [np.asarray(path.vertices) for path in lines.get_paths()]
    at = [(0.3, float(vertices[0, 1])) for vertices in corners if len(vertices)]
    ax.clabel(lines, fontsize=6, inline_spacing=2, fmt="%d", manual=at)
    best = value.idxmin(axis=1)
    ax.plot(best, steps, "o", ms=4, color="white", markeredgecolor="black", markeredgewidth=0.7)
    ax.set_yticks(steps, [str(int(s)) for s in value.index])
