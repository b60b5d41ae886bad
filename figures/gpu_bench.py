"""Times of gradients of mixtures on one device, in float64 and float32, beside their matrix products at full speed."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.tables import only
from figures import style

TABLES = ("gpu_bench", "gpu_bench_facts")
QUESTION = "How far from the speed of matrix products are gradients of mixtures on this device?"
answer = style.Caption(
    "On {device!s} a surface takes {float64_surface:.2g} times its floor in float64, {float32_surface:.2g} in float32.",
    "End-to-end takes {float64_end_to_end:.2g} and {float32_end_to_end:.2g} times (B × d × K = {problem!s}).",
    "The floor: operations of all matrix products at the rate of one large product, {float64_rate:.2g} and "
    "{float32_rate:.2g} TFLOP/s here.",
    "Gradients differ from the CPU's (float64) by at most {float64_agreement:.1e} and {float32_agreement:.1e}.",
    "a: surface. b: end-to-end. Points: medians; bars: least to largest.",
)
WORKLOADS = {"surface": "lookahead surface", "end_to_end": "one end-to-end gradient"}
DTYPES = ("float64", "float32")


@style.figure()
def draw(tables: style.Tables) -> Figure:
    """Draw one panel per workload: seconds against the operations, and the floor of each dtype."""
    table = tables["gpu_bench"]
    there = [name for name in WORKLOADS if (table["workload"] == name).any()]
    figure, axes = style.panels(len(there), 2, 2.3, 0.3, sharey=True)
    for ax, name in zip(axes, there, strict=True):
        _panel(ax, only(table, workload=name))
        ax.set(title=WORKLOADS[name], xlabel="operations of matrix products", xscale="log", yscale="log")
    axes[0].set_ylabel("seconds")
    handles = [Line2D([], [], label=dtype, **style.series(i) | {"linestyle": "-"}) for i, dtype in enumerate(DTYPES)]
    handles += [
        Line2D([], [], color="0.3", linestyle="--", label="floor: one large product"),
        Line2D([], [], color="0.3", linestyle=":", label="floor: products in their shapes"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _panel(ax: Axes, table: pd.DataFrame) -> None:
    for i, dtype in enumerate(DTYPES):
        rows = only(table, dtype=dtype).sort_values("operations")
        rows = rows.rename(columns={"seconds_min": "low", "seconds_max": "high"})
        look = style.series(i)
        style.errorbars(ax, rows["operations"], rows, "seconds", **look | {"linestyle": "-"})
        for column, dash in {"floor_seconds": "--", "products_seconds": ":"}.items():
            ax.plot(rows["operations"], rows[column], linestyle=dash, color=look["color"])
