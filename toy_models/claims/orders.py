"""T4, D4 and D5: orders of solvers, in one step into t = 1 and in the number of steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from types import ModuleType

import pandas as pd

from analysis.claims import PRINTED, READING, Case, claim
from analysis.experiment import Cell, measure_cell
from analysis.settings import Options
from toy_models.claims.common import SLOPE
from toy_models.experiments import convergence, superconvergence
from toy_models.experiments.superconvergence import in_zeta

IN_T = ("euler", "midpoint", "heun", "rk4")
REGULAR = ("condot", "cosine")
EXACT = "product256"  # a multimodal problem whose map is exact, and cheap at a thousand steps
# The statement's own numbers, of slopes in 1 - t.
STATED = {
    "condot": {"euler": 2.0, "heun": 3.0, "midpoint": 4.0, "rk4": 5.0},
    "cosine": {"euler": 2.0, "heun": 4.0, "midpoint": 4.0, "rk4": 6.0},
    "vp_linear": {"ddim": 1.6},
}


def derived(experiment: ModuleType, cells: Iterable[Cell], name: str) -> pd.DataFrame:
    """Measure an experiment's cells and return one of the tables that it derives from them."""
    table = pd.concat([measure_cell(cell) for cell in cells], ignore_index=True)
    return experiment.derive(table)[name]


def slope_cases(kind: str, reading: str, rows: pd.DataFrame, limits: pd.Series, rule: str) -> Iterator[Case]:
    """Yield one case per fitted slope; a fit that failed has no number, fails, and says why."""
    for (_, row), limit in zip(rows.iterrows(), limits, strict=True):
        case = f"{row['solver']} in {row['variable']}, {row['problem']}, {row['path']}"
        case += "" if row["status"] == "ok" else f": {row['status']}"
        yield Case(kind, reading, case, row["slope"], row["low"], row["high"], float(limit), rule, SLOPE)


def single_steps(quick: bool, seed: int) -> pd.DataFrame:
    """Return the slopes of single steps in zeta and in 1 - t, beside theory."""
    return derived(superconvergence, superconvergence.cells(Options(quick, seed)), "slopes")


@claim(
    "T4",
    "The Jacobian of one Runge-Kutta step of order p from t to 1 errs by O(h^(p+1)), h = 1 - t.",
    "arXiv 2502.08006 (T4)",
)
def single_step(quick: bool, seed: int) -> Iterator[Case]:
    """Hold slopes in 1 - t and in zeta to at least p + 1; an O() may be beaten, and D4 says by how much."""
    rows = single_steps(quick, seed)
    least, plain, in_h = rows["declared"] + 1, rows["solver"].isin(IN_T), rows["variable"] == "1 - t"
    groups = {
        (PRINTED, "as printed: tableaux in t on every path, slope in 1 - t at least p + 1"): plain & in_h,
        (READING, "tableaux in t or zeta on every path, slope in zeta at least p + 1"): ~in_h,
        (READING, "tableaux in zeta on linear VP, slope in 1 - t at least p + 1"): (
            ~plain & in_h & (rows["path"] == "vp_linear")
        ),
    }
    for (kind, reading), chosen in groups.items():
        yield from slope_cases(kind, reading, rows[chosen], least[chosen], "at least")


@claim(
    "D4",
    "xbar is even in zeta, so that single steps into t = 1 superconverge; slopes in 1 - t: CondOT Euler 2, Heun 3, "
    "midpoint 4, RK4 5; cosine 2, 4, 4, 6; DDIM on linear VP about 1.6, and 2 in zeta.",
    "this project (D4)",
)
def superconverges(quick: bool, seed: int) -> Iterator[Case]:
    """Hold the slopes to the numbers as printed, and to the rule that explains them."""
    rows = single_steps(quick, seed)
    stated = pd.Series([STATED[p].get(s) for p, s in zip(rows["path"], rows["solver"], strict=True)], rows.index)
    printed = (rows["variable"] == "1 - t") & stated.notna()
    yield from slope_cases(PRINTED, "as printed", rows[printed], stated[printed], "near")
    zeta = rows["solver"].map(in_zeta)
    linear = rows["path"] == "vp_linear"
    own = rows["variable"] == zeta.map({True: "zeta", False: "1 - t"})
    chosen = (own & (zeta | ~linear)) | (linear & (rows["solver"] == "ddim"))
    reading = (
        "p + 1 rounded up to an even number in a variable odd in zeta; on CondOT p + 1, and one more for midpoint; "
        "in 1 - t DDIM on linear VP tends to 1 and meets 1.6 only on the way from there to 2"
    )
    yield from slope_cases(READING, reading, rows[chosen], rows["theory"][chosen], "near")


@claim(
    "D5",
    "The gradient through n steps of a solver of order p errs by O(n^-p).",
    "this project (D5)",
)
def end_to_end_order(quick: bool, seed: int) -> Iterator[Case]:
    """Hold the slope in 1/n, on the paths whose velocity is regular at both ends, to the order the solver declares."""
    cells = {replace(c, problem=EXACT) for c in convergence.cells(Options(quick, seed)) if c.path in REGULAR}
    rows = derived(convergence, sorted(cells, key=lambda c: c.path), "orders").assign(variable="1/n")
    yield from slope_cases(PRINTED, "as printed, on paths regular at both ends", rows, rows["declared"], "near")
