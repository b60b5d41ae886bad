"""How tight the bounds are."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

TABLES = ("bounds", "bounds_tightness", "bounds_overall", "bounds_loosest")
QUESTION = "Do the bounds of the gradient's error hold, and how much of them is used?"
Tables = Mapping[str, pd.DataFrame]
LABELS = {
    "integral_form": "integral form",
    "sup_form": "sup form",
    "a_priori": "a priori",
    "logarithmic_norm": "logarithmic norm",
    "gronwall": "Lipschitz constant",
}
GREEDY, END_TO_END = ("integral_form", "sup_form", "a_priori"), ("logarithmic_norm", "gronwall")
FLOOR = 1e-7  # tightness below it is drawn at the edge, as an arrow


def answer(tables: Tables) -> str:
    """Say how many cases each bound was tried on, and how it did."""
    overall = tables["bounds_overall"].set_index("bound")
    parts = [
        f"{LABELS[b]} {row.violated:.0f} of {row.cases:,.0f} (median {_plain(row['median'])}, more than always "
        f"holds in {row.vacuous / row.cases:.0%})"
        for b, row in overall.loc[[b for b in LABELS if b in overall.index]].iterrows()
    ]
    near = tables["bounds_tightness"]
    near = near[(near["bound"] == "integral_form") & (near["decade"] < 0)]["median"].min()
    loosest = tables["bounds_loosest"].set_index("bound").loc["integral_form"]
    return (
        f"Violations, and measured error over bound: {'; '.join(parts)}. For zeta below 1 the integral form's "
        f"median is {near:.2f} or more; it is loosest on {loosest['problem']} at zeta = {loosest['zeta']:.2g}. "
        "Marks are medians, thick lines quartiles, thin lines 5 % to 95 %; the dashed line is the bound itself."
    )


def _plain(value: float) -> str:
    return f"{value:.2f}" if value >= 0.005 else f"{value:.0e}" if value >= FLOOR else f"below {FLOOR:.0e}"


def draw(tables: Tables) -> Figure:
    """Draw greedy's bounds beside the end-to-end ones, by decade of zeta."""
    style.apply()
    figure, axes = plt.subplots(1, 2, figsize=(style.TEXT_WIDTH, 3.4), width_ratios=[1, 1])
    table = tables["bounds_tightness"]
    _panel(axes[0], table, GREEDY)
    _panel(axes[1], table, END_TO_END)
    axes[0].set_title("greedy")
    axes[1].set_title("end-to-end, 2 to 8 steps")
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return style.finish(figure, list(axes))


def _panel(ax: Axes, table: pd.DataFrame, wanted: tuple[str, ...]) -> None:
    rows = table[table["bound"].isin(wanted)]
    keys = [(b, d) for b in wanted for d in sorted(rows["decade"].unique())]
    solvers = list(dict.fromkeys(rows["solver"]))
    for i, (bound, decade) in enumerate(keys):
        for j, solver in enumerate(solvers):
            found = rows[(rows["bound"] == bound) & (rows["decade"] == decade) & (rows["solver"] == solver)]
            offset = (j - (len(solvers) - 1) / 2) * 0.2
            for row in found.itertuples():
                _strip(ax, row._asdict(), i + offset, solver, label=not i)
    for i in range(len(keys) // len(wanted), len(keys), len(keys) // len(wanted)):
        ax.axhline(i - 0.5, color="0.85", linewidth=0.6)
    ax.axvline(1, **style.THEORY)
    labels = [_row_label(b, d, first=k % (len(keys) // len(wanted)) == 0) for k, (b, d) in enumerate(keys)]
    ax.set(xscale="log", xlim=(FLOOR / 2, 3), yticks=range(len(keys)), yticklabels=labels)
    ax.set(ylim=(len(keys) - 0.4, -0.6), xlabel="measured error / bound")


def _row_label(bound: str, decade: int, first: bool) -> str:
    interval = rf"$\zeta < 10^{{{decade + 1}}}$"
    return f"{LABELS[bound]}\n{interval}" if first else interval


def _strip(ax: Axes, row: dict[str, float], y: float, solver: str, label: bool) -> None:
    look = style.method("end_to_end", solver) if solver else style.method("greedy")
    colour = look["color"]
    for low, high, width in (("q05", "q95", 0.7), ("q25", "q75", 2.2)):
        ax.plot([max(row[low], FLOOR), max(row[high], FLOOR)], [y, y], color=colour, lw=width, solid_capstyle="butt")
    beyond = row["median"] < FLOOR
    mark = {"marker": "<" if beyond else look["marker"], "color": colour, "markeredgecolor": "white"}
    ax.plot(max(row["median"], FLOOR), y, linestyle="", ms=5, mew=0.4, label=solver if label else None, **mark)
