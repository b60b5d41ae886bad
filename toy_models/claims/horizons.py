"""D3 and D6: how much greedy shrinks, and which horizon of lookahead is best."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import torch

from analysis.claims import PRINTED, READING, Case, claim
from analysis.experiment import Cell, measure_cell
from analysis.settings import Options, Variant
from toy_models.cells import error_cell
from toy_models.claims.common import certain
from toy_models.claims.orders import derived
from toy_models.experiments import best_horizon, greedy_shrinks
from toy_models.problems import zoo

LATE = 1e-3  # 1 - t, where the first-order term of D3's limit is left
RESAMPLES = 2000
HALF = 0.5  # a rule for the horizon that wins less than half of what there is to win is none
TWO = 2.0  # "~" read as: within a factor of two
FORMS_READ = {
    "printed": (PRINTED, "as printed: within a factor of two, and its best horizon wins half of what there is to win"),
    "interval": (READING, "the same with B growing as (s - t)^(p + 1), on step counts like those it was fitted to"),
}


@claim(
    "D3",
    "For one Gaussian greedy over ideal is 1/sqrt(1 + zeta^2/lambda) along an eigen-direction of variance lambda; its "
    "error tends to -sigma'(1)^2 h^2/(2 lambda), h = 1 - t.",
    "this project (D3)",
)
def shrinks(quick: bool, seed: int) -> Iterator[Case]:
    """Hold the ratio to the law at round-off, along every path, and its limit to the next order's contribution."""
    cells = greedy_shrinks.cells(Options(quick, seed))
    for cell in (c for c in cells if c.problem == greedy_shrinks.GAUSSIAN):
        rows = derived(greedy_shrinks, [cell], "directions")
        ratio = rows["value"] * np.sqrt(1 + rows["zeta"] ** 2 / rows["variance"])
        worst, bound = float((ratio - 1).abs().max()), float(rows["reference_bound"].max())
        yield certain(PRINTED, "as printed", f"largest deviation, {cell.path}", worst, bound)
        if np.isfinite(slope := float(zoo.ZOO_PATHS[cell.path]().d_sigma(1.0))):
            yield _limit(cell, slope)


def _limit(cell: Cell, slope: float) -> Case:
    """Return the case of the late limit: the error over zeta^2/(2 lambda), zeta taken as |sigma'(1)| h."""
    rows = derived(greedy_shrinks, [replace(cell, times=(1 - LATE,))], "directions")
    leading = (slope * LATE) ** 2 / (2 * rows["variance"])
    found = (rows["value"] - 1) / leading
    value = float(found[(found + 1).abs().idxmax()])
    # zeta differs from |sigma'(1)| h by a factor 1 + O(h), and the series in zeta^2/lambda has a second term.
    tolerance = 4 * LATE + 1.5 * float(leading.max())
    return certain(PRINTED, "as printed", f"late limit, {cell.path}", value, -1.0, "near", tolerance)


def lookahead_cells(quick: bool, seed: int) -> list[Cell]:
    """Return the cells of D6, which call the registered estimator cell by cell of (steps, horizon)."""
    steps = [2**k for k in range(5 if quick else 7)]
    fractions = [f for f in best_horizon.horizons(quick=True) if f > 0]
    settings = [
        Variant.of("lookahead", solver=solver, steps=n, horizon_fraction=f)
        for solver, n, f in product(("euler", "midpoint"), steps, fractions)
    ]
    problems, paths = (["product256"], ["condot"]) if quick else (["product256", "overlapping"], ["condot", "cosine"])
    options, samples = Options(quick, seed), 8 if quick else 32
    return [error_cell(options, problem, path, [0.2], samples, settings) for problem in problems for path in paths]


@claim(
    "D6",
    "Over n steps of a solver of order p to a horizon s, lookahead errs by about A zeta_s^2 + B n^-p: at a fixed "
    "budget there is a best horizon.",
    "this project (D6)",
)
def two_terms(quick: bool, seed: int) -> Iterator[Case]:
    """Fit both forms of B to few steps; hold them to errors at more, and their best horizons to the least error."""
    yield from two_term_cases(
        pd.concat([measure_cell(c) for c in lookahead_cells(quick, seed)], ignore_index=True), seed
    )


def two_term_cases(rows: pd.DataFrame, seed: int) -> Iterator[Case]:
    """Hold the fits to rows of lookahead's errors over steps and horizons."""
    tables = best_horizon.derive(best_horizon.with_zeta(rows))
    for form, (kind, reading) in FORMS_READ.items():
        fits, found = (tables[name][tables[name]["form"] == form] for name in ("fits", "predicted"))
        for _, fit in fits.iterrows():
            case = f"misfit on more steps, {fit['solver']}, {fit['problem']}, {fit['path']}"
            yield certain(kind, reading, case, fit["held_out_factor"], TWO)
        yield _share_won(kind, reading, found[~found["held_out"]], seed)
        if kind == READING:
            yield _share_won(kind, f"{reading}; on steps that no fit has seen", found[found["held_out"]], seed)


def _share_won(kind: str, reading: str, found: pd.DataFrame, seed: int) -> Case:
    interval = won(found["regret"].to_numpy(), found["regret_of_1"].to_numpy(), seed)
    case = f"share won by the predicted horizon, {len(found)} step counts"
    return Case(kind, reading, case, *interval, HALF, "at least")


def won(regret: np.ndarray, regret_of_end: np.ndarray, seed: int) -> tuple[float, float, float]:
    """Return the share of log(error at the end / least error) that a rule wins, with a 95 % bootstrap interval.

    ``regret`` (N,) is the error at the rule's horizon over the least one, ``regret_of_end`` (N,) that at s = 1.
    """
    logs = np.log(np.stack([regret, regret_of_end]))
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(logs.shape[1], (RESAMPLES, logs.shape[1]), generator=generator).numpy()
    sums = logs[:, drawn].sum(-1)
    low, high = np.quantile(1 - sums[0] / sums[1], [0.025, 0.975])
    return float(1 - logs[0].sum() / logs[1].sum()), float(low), float(high)
