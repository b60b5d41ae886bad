"""The same molecules as the guide, the evaluator, GFN2-xTB and density functional theory see them."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("molecules_summary", "molecules_facts")
QUESTION = "Is what the network reports of guided molecules true of the molecules?"
answer = style.Caption(
    style.choose(
        "xtb_order",
        {
            "end": "GFN2-xTB, too, finds end-to-end's errors below greedy's.",
            "greedy": "GFN2-xTB finds greedy's errors below end-to-end's.",
            "none": "GFN2-xTB does not tell end-to-end's errors from greedy's.",
            "few": "GFN2-xTB judges {xtb_pairs} targets of both end-to-end and greedy, too few to order them.",
        },
    ),
    style.choose(
        "dft_order",
        {
            "end": "Density functional theory finds end-to-end's errors below greedy's ({dft_pairs} targets).",
            "greedy": "Density functional theory finds greedy's errors below end-to-end's ({dft_pairs} targets).",
            "none": "Density functional theory does not tell them apart ({dft_pairs} targets).",
            "few": "Density functional theory judges {dft_pairs} targets of both, too few to order them.",
        },
    ),
    "Of greedy's error end-to-end leaves {guide_ratio_all:.2f} by the guide, {evaluator_ratio_all:.2f} by the "
    "evaluator and {xtb_ratio_all:.2f} by GFN2-xTB, of what each judges.",
    "Of {judged} molecules that did not diverge {unjudged} have no value there (open shell, overlap, no convergence).",
    "Source, {budget} evaluations and products, {molecules!p:molecule}.",
    "Means of two or more over the data's spread (dashes), 95% intervals of eight or more.",
)


@style.figure(legend=3)
def draw(tables: style.Tables) -> Figure:
    """Draw a panel per judge, the properties side by side with the estimators in the same order in each."""
    table = only(tables["molecules_summary"], setting="source", over="all")
    guided = table[table["estimator"] != "unguided"]
    table = table[(table["budget"] == guided["budget"].max()) | (table["estimator"] == "unguided")]
    ends = ("mean", "low", "high")
    table = table.assign(**{end: table[f"relative_{end}"] for end in ends})
    table = table[table["measurements"] > 1]
    return style.by_judge(table, "property", {name: _short(name) for name in names.PROPERTIES})


def _short(name: str) -> str:
    """Return a property without its unit."""
    return names.of("properties", name).split(",")[0].removesuffix(" / spread")
