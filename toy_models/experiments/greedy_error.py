"""The greedy gradient's error against zeta, over the zoo and the paths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from analysis.experiment import Cell
from analysis.settings import Options, Variant
from analysis.slopes import slopes
from analysis.tables import errors_only, only
from toy_models.cells import error_cell
from toy_models.problems.zoo import PROBLEMS, ZOO_PATHS

SUITE = "theory"
DIGITS = ("condot", "cosine")  # the paths on which the dearest problem is measured
AGREE = 0.01  # paths whose errors at equal zeta differ by less, relatively, agree


def cells(options: Options) -> list[Cell]:
    """Return one cell per problem and path, with times at equal zeta."""
    problems = ("gaussian", "product256") if options.quick else tuple(PROBLEMS)
    paths = ("condot", "vp_linear") if options.quick else tuple(ZOO_PATHS)
    pairs = [(problem, path) for problem in problems for path in paths if problem != "digits" or path in DIGITS]
    zeta = torch.from_numpy(np.geomspace(1e-4, 5, 8 if options.quick else 16))
    return [
        error_cell(
            options,
            problem,
            path,
            ZOO_PATHS[path]().time_from_zeta(zeta).tolist(),
            samples=6 if options.quick else 12,
            variants=[Variant.of("greedy")],
        )
        for problem, path in pairs
    ]


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Fit the slope in zeta on the smallest zetas."""
    fits = slopes(table, ["problem", "path"], "zeta", points=5)
    return {"slopes": fits, "facts": facts(table, fits)}


def facts(table: pd.DataFrame, fits: pd.DataFrame) -> pd.DataFrame:
    """Summarise the slopes, and compare a problem's paths by their median errors at equal zeta."""
    row: dict[str, Any] = {"path": table["path"].iloc[0]}
    fitted = only(fits, status="ok")
    if len(fitted):
        slope = fitted["slope"]
        row |= {"slope": slope.median(), "slope_low": slope.min(), "slope_high": slope.max(), "fits": len(fitted)}
        row |= {"points": int(fitted["points"].max())}
    if table["path"].nunique() > 1:
        errors = errors_only(table)
        place = errors.groupby(["problem", "path"])["zeta"].rank().rename("place")
        equal = errors.groupby([errors["problem"], place])["value"]
        spread = float((equal.max() / equal.min() - 1).max())
        row |= {"spread": spread, "paths": "agree" if spread <= AGREE else "differ"}
    return pd.DataFrame([row])
