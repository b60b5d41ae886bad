"""The errors of guided molecules in every setting, as the networks and GFN2-xTB see them."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("molecules_summary", "molecules_facts")
QUESTION = "Is the order that the networks report in each setting true of the molecules?"


def _verdict(fact: str, said: str) -> style.Choice:
    return style.choose(
        fact,
        {
            "end": f"{said} end-to-end errs less than greedy.",
            "greedy": f"{said} greedy errs less than end-to-end.",
            "none": f"{said} the order is undecided.",
            "few": f"{said} too few targets compare them.",
        },
    )


answer = style.Caption(
    "In the source, by the evaluator, {best!g} has the least error.",
    _verdict("late_order", "From late starts"),
    _verdict("late_xtb_order", "By GFN2-xTB"),
    _verdict("guidance_order", "Per step"),
    _verdict("guidance_xtb_order", "By GFN2-xTB"),
    _verdict("controls_order", "In controls"),
    _verdict("controls_xtb_order", "By GFN2-xTB"),
    "Mean errors over all properties, over their spread in the data (dashes), at each setting's largest budget; 95% "
    "intervals of eight or more.",
)


@style.figure(legend=3)
def draw(tables: style.Tables) -> Figure:
    """Draw a panel per judge, the settings side by side with the gradients in the same order in each."""
    table = only(tables["molecules_summary"], property="all", over="all")
    table = table[(table["estimator"] != "unguided") & (table["metric"] != "dft_error")]
    last = [part[part["budget"] == part["budget"].max()] for _, part in style.groups(table, "setting")]
    return style.by_judge(pd.concat(last), "setting", names.SETTINGS)
