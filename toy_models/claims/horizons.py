"""D3 and D6: the factor by which greedy shrinks derivatives, and the best horizon of lookahead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import pandas as pd
import torch

from analysis.claims import PRINTED, STATEMENTS, Case, claim
from analysis.claims.cases import deterministic_case
from analysis.claims.two_terms import two_term_cases, with_zeta
from analysis.experiment import Cell
from analysis.settings import Options, Variant
from toy_models.bounds.shrinkage import direction_rows, shrinkage, with_law
from toy_models.cells import error_cell
from toy_models.claims.common import measure_cells
from toy_models.problems import zoo

GAUSSIAN = "gaussian"
LATE = 1e-3  # 1 - t, where the first-order term of D3's limit is left


@claim("D3", *STATEMENTS["D3"])
def shrinks(quick: bool, seed: int) -> Iterator[Case]:
    """Compare the ratio with the law at round-off along every path, and its late limit within the next order's term."""
    zeta = torch.from_numpy(np.geomspace(0.03, 4, 4 if quick else 6))
    for path in ("condot", "vp_linear") if quick else tuple(zoo.ZOO_PATHS):
        rows = _directions(path, zoo.ZOO_PATHS[path]().time_from_zeta(zeta).tolist(), quick, seed)
        ratio = rows["value"] * np.sqrt(1 + rows["zeta"] ** 2 / rows["variance"])
        worst, bound = float((ratio - 1).abs().max()), float(rows["reference_bound"].max())
        yield deterministic_case(PRINTED, "as printed", f"largest deviation, {path}", worst, bound)
        if np.isfinite(d_sigma := float(zoo.ZOO_PATHS[path]().d_sigma(1.0))):
            yield _limit_case(path, d_sigma, _directions(path, [1 - LATE], quick, seed))


def _directions(path: str, times: Sequence[float], quick: bool, seed: int) -> pd.DataFrame:
    """Return greedy over ideal for one Gaussian along its eigen-directions, beside the law."""
    cell = error_cell(Options(quick, seed), GAUSSIAN, path, times, 4 if quick else 6, ())
    subject, at = zoo.subject(GAUSSIAN, path), torch.tensor(cell.times, dtype=torch.float64)
    x, t = subject.states(at, cell.samples, cell.generator()), at.repeat_interleave(cell.samples)
    named = {"problem": GAUSSIAN, "path": path}
    return shrinkage(with_law(pd.DataFrame(named | direction_rows(subject, x, t, 4 if quick else 8))))


def _limit_case(path: str, d_sigma: float, rows: pd.DataFrame) -> Case:
    """Return the case of the late limit: the error over zeta^2/(2 lambda), zeta taken as |sigma'(1)| h."""
    leading = (d_sigma * LATE) ** 2 / (2 * rows["variance"])
    error = (rows["value"] - 1) / leading
    value = float(error[(error + 1).abs().idxmax()])
    # zeta differs from |sigma'(1)| h by a factor 1 + O(h), and the series in zeta^2/lambda has a second term.
    tolerance = 4 * LATE + 1.5 * float(leading.max())
    return deterministic_case(PRINTED, "as printed", f"late limit, {path}", value, -1.0, "near", tolerance)


def lookahead_cells(quick: bool, seed: int) -> list[Cell]:
    """Return the cells of D6, which call the registered estimator cell by cell of (steps, horizon)."""
    steps = [2**k for k in range(5 if quick else 7)]
    even, near_end = np.linspace(0, 1, 9)[1:], 1 - np.geomspace(2**-9, 2**-4, 6)
    fractions = sorted({round(float(f), 6) for f in (*even, *near_end)})
    variants = [
        Variant.of("lookahead", solver=solver, steps=n, horizon_fraction=f)
        for solver, n, f in product(("euler", "midpoint"), steps, fractions)
    ]
    problems, paths = (["product256"], ["condot"]) if quick else (["product256", "overlapping"], ["condot", "cosine"])
    options, samples = Options(quick, seed), 8 if quick else 32
    return [error_cell(options, problem, path, [0.2], samples, variants) for problem in problems for path in paths]


@claim("D6", *STATEMENTS["D6"])
def two_terms(quick: bool, seed: int) -> Iterator[Case]:
    """Fit both forms of B to few steps; test them on errors at more steps and on the best horizons."""
    yield from two_term_cases(with_zeta(measure_cells(lookahead_cells(quick, seed)), zoo.ZOO_PATHS), seed)
