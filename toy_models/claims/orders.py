"""T4, D4 and D5: orders of solvers, in one step into t = 1 and in the number of steps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch

from analysis.bounds.single_step import IN_H, IN_ZETA, steps_in_zeta
from analysis.claims import PRINTED, READING, STATEMENTS, Case, claim
from analysis.claims.single_steps import STATED, TABLEAUX_IN_T, single_step_slopes, slope_cases
from analysis.settings import Options, Variant
from analysis.slopes import slopes
from analysis.solvers import SOLVERS
from toy_models.cells import error_cell
from toy_models.claims.common import measure_cells
from toy_models.problems.zoo import ZOO_PATHS

SINGLE = (*TABLEAUX_IN_T, "ddim", "midpoint_zeta", "heun_zeta", "rk4_zeta")
SINGLE_PATHS = ("condot", "cosine", "vp_linear")
SOLVED = (*TABLEAUX_IN_T, "ddim")
REGULAR, OTHERS = ("condot", "cosine"), ("vp_linear", "ve", "polynomial")
EXACT = "product256"  # a multimodal problem whose map is exact, and cheap at a thousand steps


def single_steps(quick: bool, seed: int) -> pd.DataFrame:
    """Return the slopes of single steps in zeta and in 1 - t, beside theory."""
    zeta = torch.from_numpy(np.geomspace(1e-3, 1, 16 if quick else 25))
    variants = [Variant.of("end_to_end", solver=solver, steps=1) for solver in SINGLE]
    problems, samples = (EXACT,) if quick else (EXACT, "overlapping"), 8 if quick else 32
    times = {path: ZOO_PATHS[path]().time_from_zeta(zeta).tolist() for path in SINGLE_PATHS}
    cells = [
        error_cell(
            Options(quick, seed),
            problem,
            path,
            times[path],
            samples,
            variants,
            factory="toy_models.problems.jacobian_rows:subject",
        )
        for problem in problems
        for path in SINGLE_PATHS
    ]
    return single_step_slopes(measure_cells(cells), ZOO_PATHS)


@claim("T4", *STATEMENTS["T4"])
def single_step(quick: bool, seed: int) -> Iterator[Case]:
    """Check that slopes in 1 - t and in zeta are at least p + 1 (an O() may be exceeded; D4 reports by how much)."""
    rows = single_steps(quick, seed)
    least, plain, in_h = rows["declared"] + 1, rows["solver"].isin(TABLEAUX_IN_T), rows["variable"] == IN_H
    groups = {
        (PRINTED, "as printed: tableaux in t, slope in 1 - t at least p + 1"): plain & in_h,
        (READING, "tableaux in t or zeta, slope in zeta at least p + 1"): ~in_h,
        (READING, "tableaux in zeta on linear VP, slope in 1 - t at least p + 1"): (
            ~plain & in_h & (rows["path"] == "vp_linear")
        ),
    }
    for (kind, reading), chosen in groups.items():
        yield from slope_cases(kind, reading, rows[chosen], least[chosen], "at least")


@claim("D4", *STATEMENTS["D4"])
def superconverges(quick: bool, seed: int) -> Iterator[Case]:
    """Compare the slopes with the numbers as printed, and with the rule that explains them."""
    rows = single_steps(quick, seed)
    stated = pd.Series([STATED[p].get(s) for p, s in zip(rows["path"], rows["solver"], strict=True)], rows.index)
    printed = (rows["variable"] == IN_H) & stated.notna()
    yield from slope_cases(PRINTED, "as printed", rows[printed], stated[printed], "near")
    in_zeta = rows["solver"].map(steps_in_zeta)
    linear = rows["path"] == "vp_linear"
    own = rows["variable"] == in_zeta.map({True: IN_ZETA, False: IN_H})
    chosen = (own & (in_zeta | ~linear)) | (linear & (rows["solver"] == "ddim"))
    reading = (
        "p + 1 rounded up to an even number in a variable odd in zeta; on CondOT p + 1, and one more for midpoint; "
        "in 1 - t DDIM on linear VP tends to 1 and meets 1.6 only on the way from there to 2"
    )
    yield from slope_cases(READING, reading, rows[chosen], rows["theory"][chosen], "near")


@claim("D5", *STATEMENTS["D5"])
def end_to_end_order(quick: bool, seed: int) -> Iterator[Case]:
    """Compare the slope in 1/n with the solver's declared order; as the paths are chosen, this is a reading."""
    steps = [2**k for k in (range(5, 9) if quick else range(4, 11))]
    variants = [Variant.of("end_to_end", solver=solver, steps=n) for solver in SOLVED for n in steps]
    samples, options = 16 if quick else 64, Options(quick, seed)
    paths = REGULAR[:1] if quick else (*REGULAR, *OTHERS)
    table = measure_cells(error_cell(options, EXACT, path, [0.2], samples, variants) for path in paths)
    rows = slopes(table.assign(h=1 / table["steps"]), ["problem", "path", "solver"], "h", points=4)
    rows = rows.assign(variable="1/n", declared=[float(SOLVERS[name].order) for name in rows["solver"]])
    regular = rows["path"].isin(REGULAR)
    reading = "on paths whose velocity is regular at both ends (CondOT, cosine)"
    yield from slope_cases(READING, reading, rows[regular], rows["declared"][regular], "near")
    reading = "on linear VP, variance-exploding and polynomial paths, at least so"
    yield from slope_cases(READING, reading, rows[~regular], rows["declared"][~regular], "at least")
