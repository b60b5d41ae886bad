"""Gradients as arrows over a density."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

TABLES = ("gradient_field",)
QUESTION = "Where does each gradient point, and where does greed mislead?"
Tables = Mapping[str, pd.DataFrame]


def answer(tables: Tables) -> str:
    """Say in how many places greedy and ideal disagree in direction."""
    arrows = _wide(tables["gradient_field"])
    parts = []
    for t, rows in arrows.groupby("t"):
        angles = {kind: _angle(rows, kind) for kind in _kinds(tables["gradient_field"]) if kind != "ideal"}
        parts.append(f"t = {t:g}: " + ", ".join(f"{kind} {np.median(a):.0f}°" for kind, a in angles.items()))
    return (
        "Median angle to the ideal descent direction over the grid, by time: " + "; ".join(parts) + ". Arrows point "
        "down the loss (half the squared distance to the cross), all of equal length; shading is the density p_t."
    )


def _kinds(table: pd.DataFrame) -> list[str]:
    return [kind for kind in dict.fromkeys(table["kind"]) if kind not in ("density", "target")]


def _wide(table: pd.DataFrame) -> pd.DataFrame:
    arrows = table[table["kind"].isin(_kinds(table))]
    wide = arrows.pivot(index=["t", "x0", "x1"], columns="kind", values=["v0", "v1"])
    return wide.reset_index()


def _angle(rows: pd.DataFrame, kind: str) -> np.ndarray:
    g, truth = (np.stack([rows[("v0", k)], rows[("v1", k)]], 1).astype(float) for k in (kind, "ideal"))
    cosine = (g * truth).sum(1) / np.linalg.norm(g, axis=1) / np.linalg.norm(truth, axis=1)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def draw(tables: Tables) -> Figure:
    """Draw rows of estimators, columns of times; every panel repeats the ideal gradient in black."""
    style.apply()
    table = tables["gradient_field"]
    times, kinds = sorted(table["t"].unique()), _kinds(table)[1:]
    size = (style.TEXT_WIDTH, style.TEXT_WIDTH * len(kinds) / len(times) + 0.5)
    figure, axes = plt.subplots(len(kinds), len(times), figsize=size, sharex=True, sharey=True, squeeze=False)
    for i, kind in enumerate(kinds):
        for j, t in enumerate(times):
            _panel(axes[i, j], table[table["t"] == t], kind)
            if i == 0:
                axes[i, j].set_title(f"t = {t:g}")
        axes[i, 0].set_ylabel(kind)
    shown = {"ideal": "black", "greedy": _colour("greedy"), "lookahead (midpoint)": _colour("lookahead")}
    handles = [plt.Line2D([], [], color=colour, lw=1.6) for colour in shown.values()]
    figure.legend(handles, list(shown), loc="outside lower center", ncols=3)
    return figure


def _colour(kind: str) -> str:
    return style.method(kind)["color"] if kind == "greedy" else style.method("lookahead", "midpoint")["color"]


def _panel(ax: Axes, rows: pd.DataFrame, kind: str) -> None:
    density = rows[rows["kind"] == "density"].pivot(index="x1", columns="x0", values="v0")
    x, y = density.columns.to_numpy(), density.index.to_numpy()
    ax.contourf(x, y, density, levels=12, cmap="Greys", vmax=1.6 * density.to_numpy().max())
    for name, colour, width in (("ideal", "black", 0.006), (kind, _colour(kind), 0.009)):
        arrows = rows[rows["kind"] == name]
        size = np.hypot(arrows["v0"], arrows["v1"])
        u, v = -arrows["v0"] / size, -arrows["v1"] / size
        ax.quiver(arrows["x0"], arrows["x1"], u, v, color=colour, width=width, scale=13, headwidth=3.5, alpha=0.9)
    target = rows[rows["kind"] == "target"]
    ax.plot(target["x0"], target["x1"], "x", color="black", ms=4, mew=1)
    ax.set(xticks=[], yticks=[], aspect="equal")
