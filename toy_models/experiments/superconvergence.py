"""The order of one solver step from t to 1 beside theory: its Jacobian's error against zeta and against h = 1 - t."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from analysis.bounds.single_step import IN_H, IN_ZETA, steps_in_zeta
from analysis.claims.single_steps import single_step_slopes
from analysis.experiment import Cell
from analysis.settings import Options, Variant
from analysis.tables import errors_only, only
from toy_models.cells import error_cell
from toy_models.problems.zoo import ZOO_PATHS

SUITE = "theory"
SHOWN = ("euler", "midpoint", "heun", "rk4", "ddim", "midpoint_zeta", "heun_zeta", "rk4_zeta")
SHOWN_PATHS = ("condot", "cosine", "vp_linear")
MARGIN = 0.15  # a slope this close to theory agrees with it
QUADRATIC = 0.1  # up to this zeta DDIM's error on linear VP is quadratic in it


def cells(options: Options) -> list[Cell]:
    """Return one cell per problem and path, all solvers in it, with times at equal zeta."""
    zeta = torch.from_numpy(np.geomspace(1e-3, 1, 16 if options.quick else 25))
    problems = ("product256",) if options.quick else ("product256", "overlapping")
    variants = [Variant.of("end_to_end", solver=solver, steps=1) for solver in SHOWN]
    samples, factory = 8 if options.quick else 32, "toy_models.problems.jacobian_rows:subject"
    times = {path: ZOO_PATHS[path]().time_from_zeta(zeta).tolist() for path in SHOWN_PATHS}
    return [
        error_cell(options, problem, path, times[path], samples, variants, factory=factory)
        for problem in problems
        for path in SHOWN_PATHS
    ]


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Fit the slopes in zeta and in 1 - t beside theory; the status of a solver that could not run holds the reason."""
    fitted = single_step_slopes(table, ZOO_PATHS)
    return {"slopes": fitted, "facts": facts(table, fitted)}


def facts(table: pd.DataFrame, fitted: pd.DataFrame) -> pd.DataFrame:
    """Count agreements with theory in each solver's own variable, and give DDIM's slopes along linear VP."""
    fits = only(fitted, status="ok")
    own = fits[fits["variable"] == np.where(fits["solver"].map(steps_in_zeta), IN_ZETA, IN_H)]
    near = (own["slope"] - own["theory"]).abs() <= MARGIN
    row: dict[str, Any] = {"problem": table["problem"].iloc[0], "margin": MARGIN, "fits": len(own)}
    row |= {"near": int(near.sum()), "exceed": int((near & (own["theory"] > own["declared"] + 1)).sum())}
    if len(fits) < len(fitted):
        row["refused"] = len(fitted) - len(fits)
    gain = only(own, path="condot", solver="midpoint")
    if len(gain):
        slope = float(gain["slope"].median())
        row |= {"midpoint_slope": slope, "midpoint": abs(slope - 3 - 1) <= MARGIN}
    return pd.DataFrame([row | _linear_vp(table)])


def _linear_vp(table: pd.DataFrame) -> dict[str, float]:
    """Return DDIM's slopes along linear VP between neighbouring small zetas, in zeta and in h."""
    rows = only(errors_only(table), path="vp_linear", solver="ddim", problem=table["problem"].iloc[0], status="ok")
    rows = rows[rows["zeta"] <= QUADRATIC].sort_values("zeta")
    if len(rows) < 2:
        return {}
    h, value, zeta = (np.diff(np.log(v.to_numpy(float))) for v in (1 - rows["t"], rows["value"], rows["zeta"]))
    row = {"vp_low": (value / zeta).min(), "vp_high": (value / zeta).max()}
    return row | {"vp_first": (value / h)[0], "vp_last": (value / h).max()}
