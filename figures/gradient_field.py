"""Gradients as arrows over a density."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.tables import only
from figures import style

TABLES = ("gradient_field", "gradient_field_facts")
QUESTION = "Where does each gradient point, and where does greed mislead?"
answer = style.Caption(
    "At t = {early_t:g} greedy is {early_greedy:.0f}° off the ideal direction, lookahead {early_lookahead:.0f}° "
    "(medians).",
    "At t = {late_t:g} it is {late_greedy:.0f}° and {late_lookahead:.0f}°; lookahead takes {steps} midpoint steps.",
    "Arrows point down the loss, half the squared distance to the cross, and have equal length: black ideal, "
    "coloured the method of the row. Shading is the density of x_t, over [−4.2, 4.2]² as in every panel.",
)
GREEDY, LOOKAHEAD = style.method("greedy")["color"], style.method("lookahead", "midpoint")["color"]


@style.figure(letters=False)
def draw(tables: style.Tables) -> Figure:
    """Draw rows of estimators, columns of times; every panel repeats the ideal gradient."""
    table = tables["gradient_field"]
    times = style.values(table, "t")
    kinds = [k for k in style.values(table, "kind") if k not in ("density", "target", "ideal")]
    height = style.TEXT_WIDTH / len(times)
    figure, axes = style.panels(len(kinds) * len(times), len(times), height, 0.4, sharex=True, sharey=True)
    for i, (kind, t) in enumerate((kind, t) for kind in kinds for t in times):
        _panel(axes[i], only(table, t=t), kind)
        if i < len(times):
            axes[i].set_title(f"$t = {t:g}$")
        if i % len(times) == 0:
            axes[i].set_ylabel(kind, color=_colour(kind))
    figure.legend(handles=[Line2D([], [], color="black", label="ideal")], loc="outside lower center")
    return figure


def _colour(kind: str) -> str:
    return GREEDY if kind == "greedy" else LOOKAHEAD


def _panel(ax: Axes, rows: pd.DataFrame, kind: str) -> None:
    density = only(rows, kind="density").pivot(index="x1", columns="x0", values="v0")
    x, y = density.columns.to_numpy(), density.index.to_numpy()
    ax.contourf(x, y, density, levels=12, cmap="Greys", vmax=2.2 * density.to_numpy().max())
    for name, shade, width, head in ((kind, _colour(kind), 0.012, 2.4), ("ideal", "black", 0.004, 5.0)):
        arrows = only(rows, kind=name)
        size = np.hypot(arrows["v0"], arrows["v1"])
        where = arrows["x0"], arrows["x1"], -arrows["v0"] / size, -arrows["v1"] / size
        ax.quiver(*where, color=shade, width=width, scale=13, headwidth=head, headlength=head, headaxislength=head)
    target = only(rows, kind="target")
    ax.plot(target["x0"], target["x1"], "x", color="black", markersize=5, markeredgewidth=1.2)
    ax.set(xticks=[], yticks=[], aspect="equal")
