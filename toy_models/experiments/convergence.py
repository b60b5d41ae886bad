"""The end-to-end gradient's error against the number of steps, for every solver and path."""

from __future__ import annotations

import pandas as pd

from analysis.experiment import Cell
from analysis.settings import Options, Variant
from analysis.slopes import slopes
from analysis.solvers import SOLVERS
from analysis.tables import only
from toy_models.cells import error_cell
from toy_models.problems.zoo import ZOO_PATHS

SUITE = "theory"
SHOWN = ("euler", "midpoint", "heun", "rk4", "ddim")
MARGIN = 0.1  # an order this close to the declared one agrees with it


def cells(options: Options) -> list[Cell]:
    """Return one cell per problem and path, all solvers and step counts in it."""
    steps = [2**k for k in range(7 if options.quick else 11)]
    variants = [Variant.of("end_to_end", solver=solver, steps=n) for solver in SHOWN for n in steps]
    problems = ("product256",) if options.quick else ("overlapping", "product256")
    paths = ("condot",) if options.quick else tuple(ZOO_PATHS)
    samples = 16 if options.quick else 32
    return [error_cell(options, problem, path, [0.2], samples, variants) for problem in problems for path in paths]


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Fit the order in 1/steps, beside the order that each solver declares."""
    fitted = slopes(table.assign(h=1 / table["steps"]), ["problem", "path", "solver"], "h", points=4)
    orders = fitted.assign(declared=[SOLVERS[name].order for name in fitted["solver"]])
    return {"orders": orders, "facts": facts(orders)}


def facts(orders: pd.DataFrame) -> pd.DataFrame:
    """Count the fitted orders within ``MARGIN`` of the declared one, and name the one that is farthest off."""
    fits = only(orders, status="ok")
    off = (fits["slope"] - fits["declared"]).abs()
    row = {
        "problem": orders["problem"].iloc[0],
        "margin": MARGIN,
        "fitted": len(fits),
        "near": int((off <= MARGIN).sum()),
    }
    if len(fits) < len(orders):
        row["refused"] = len(orders) - len(fits)
    if len(fits) and off.max() > MARGIN:
        row |= fits.loc[off.idxmax(), ["solver", "path", "slope", "declared"]].to_dict()
    return pd.DataFrame([row])
