"""T4, D4 and D5 on any flow: fitted slopes as cases, the numbers that D4 states, and slopes beside theory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pandas as pd

from analysis.bounds.single_step import IN_H, IN_ZETA, exponent
from analysis.claims.cases import slope_case
from analysis.claims.ledger import Case
from analysis.paths import PATHS, AffinePath
from analysis.slopes import slopes
from analysis.solvers import SOLVERS

POINTS = 5  # of a fit
COLUMNS = {IN_ZETA: "zeta", IN_H: "h"}
TABLEAUX_IN_T = ("euler", "midpoint", "heun", "rk4")
# The numbers that D4 states, of slopes in 1 - t.
STATED = {
    "condot": {"euler": 2.0, "heun": 3.0, "midpoint": 4.0, "rk4": 5.0},
    "cosine": {"euler": 2.0, "heun": 4.0, "midpoint": 4.0, "rk4": 6.0},
    "vp_linear": {"ddim": 1.6},
}


def single_step_slopes(table: pd.DataFrame, paths: Mapping[str, Callable[[], AffinePath]] = PATHS) -> pd.DataFrame:
    """Fit the slopes of single steps' errors in zeta and in 1 - t, beside theory.

    A solver that could not run, or whose slope could not be fitted, is a row with the reason as its status. ``paths``
    maps the names in the column ``path`` to paths.

    Returns
    -------
    DataFrame
        One row per solver, path, problem and variable.
    """
    by = ["problem", "path", "solver"]
    table = table.assign(h=1 - table["t"]) if "t" in table else table
    ran = table[table["status"] == "ok"]
    refused = table[table["status"] != "ok"].groupby(by, as_index=False)["status"].first()
    frames = [slopes(ran, by, column, POINTS).assign(variable=name) for name, column in COLUMNS.items()]
    fitted = pd.concat([*frames, *([refused.assign(variable=IN_ZETA)] if len(refused) else [])], ignore_index=True)
    keys = zip(fitted["path"], fitted["solver"], fitted["variable"], strict=True)
    expected = [exponent(paths[path](), solver, variable) for path, solver, variable in keys]
    declared = [SOLVERS[solver].order for solver in fitted["solver"]]
    return fitted.assign(theory=expected, declared=declared)


def slope_cases(kind: str, reading: str, rows: pd.DataFrame, limits: pd.Series, rule: str) -> Iterator[Case]:
    """Yield one case per fitted slope; a failed fit has no number, fails, and carries the reason."""
    for (_, row), limit in zip(rows.iterrows(), limits, strict=True):
        case = f"{row['solver']} in {row['variable']}, {row['problem']}, {row['path']}"
        case += "" if row["status"] == "ok" else f": {row['status']}"
        yield slope_case(kind, reading, case, (row["slope"], row["low"], row["high"]), float(limit), rule)
