"""Numbers of the published tables as the pages write them, and whether a page states them."""

import re

from analysis import results
from analysis.provenance import ROOT

PUBLISHED = ROOT / "figures" / "published" / "tables"
WORDS = {
    "greedy": "greedy",
    "two_step_euler": "two Euler steps",
    "midpoint": "one midpoint step",
    "midpoint_4": "four midpoint steps",
    "adaptive": "adaptive",
    "end_to_end": "end-to-end",
}
# Mean absolute errors of table 1 of arXiv 2502.08006: alpha, gap, HOMO, LUMO, mu and C_v.
TABLE_1 = {
    "greedy": (11.282, 1265, 725, 1092, 1.559, 6.469),
    "two_step_euler": (5.377, 1275, 560, 1204, 1.563, 2.975),
    "midpoint": (5.313, 1196, 599, 1057, 1.417, 2.967),
    "end_to_end": (1.404, 401, 176, 373, 0.372, 0.866),
}
PLACES = {
    "guidance": "per step",
    "steps": "optimiser per step",
    "source": "source",
    "source_late": "source, late",
    "controls": "controls",
}


def table(name):
    return results.read_table(PUBLISHED / f"{name}.parquet")


def percent(share):
    return f"{100 * share:.0f} %"


def spread(row, name="mean", middle=""):
    """A number with its interval."""
    return f"{row[name + middle]:.2f} [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]".replace("-", "−")


def learned(regime, aim, part="budgets"):
    """Rows of restored digits with the learned flow."""
    rows = table(f"regimes_images_{part}")
    return rows[(rows["regime"] == regime) & (rows["aim"] == aim)]


def missing(page, lines):
    """Return the lines that a page, a path below the project, does not have."""
    text = one_line((ROOT / page).read_text())
    return [said for said in lines if one_line(said) not in text]


def one_line(text):
    return re.sub(r"\s+", " ", text.replace("**", "")).replace("\u00a0", " ")
