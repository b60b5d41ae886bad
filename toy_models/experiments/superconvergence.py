r"""The order of one solver step from t to 1: the error of its Jacobian against zeta and against h = 1 - t.

Theory. Along a trajectory :math:`\bar x = x/\alpha` is an even function of zeta, as p_t depends on zeta^2 alone. Call a
step *mirrored* where it is taken in a coordinate that is odd in zeta, for a state that is x/alpha up to an even
factor: zeta itself on every path, and 1 - t where alpha is even and sigma odd in it (cosine, VE). There the field is
odd, so that a step started from -h takes the same stages as one from h: its error is even in h, and the exponent p + 1
of a method of order p rounds up to the next even number. A step in t on another path has p + 1 alone.

CondOT is not mirrored in 1 - t, yet midpoint gains one order: the h^3 error of a second-order step with nodes (0, c_2)
is :math:`(1/6 - c_2/4)\,x''' + (c_2/4)\,u_x x''` (Hairer, Norsett & Wanner, *Solving ODEs I*, section II.1). There
:math:`x = (1-h)\,\bar x`, :math:`\zeta = h/(1-h)` give :math:`x''' = -3x''` and u_x = 1 at t = 1: in all
:math:`(c_2 - 1/2)\,x''`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis.experiment import Cell
from analysis.losses import Linear, Loss
from analysis.paths import AffinePath, CondOT
from analysis.settings import Options, Variant
from analysis.solvers import SOLVERS
from analysis.solvers.tableaux import TABLEAUX
from analysis.subject import Subject
from analysis.tables import errors_only, only, slopes
from toy_models.cells import error_cell
from toy_models.problems import zoo

SHOWN = ("euler", "midpoint", "heun", "rk4", "ddim", "midpoint_zeta", "heun_zeta", "rk4_zeta")
SHOWN_PATHS = ("condot", "cosine", "vp_linear")
VARIABLES = {"zeta": "zeta", "1 - t": "h"}
POINTS = 5
MARGIN = 0.15  # a slope this close to theory agrees with it
QUADRATIC = 0.1  # up to this zeta DDIM's error on linear VP is quadratic in it


def subject(problem: str, path: str, dtype: str = "float64", device: str = "cpu") -> Subject:
    """Return a zoo problem whose gradients are rows of the Jacobian DPhi: products with random unit vectors.

    All times start from the same x/alpha, a sample of the data: the orders are those of one curve of errors.
    """
    base = zoo.subject(problem, path, dtype, device)
    data, schedule = zoo.distribution(base.reference_flow), base.reference_flow.path

    def states(times: Tensor, n: int, generator: torch.Generator) -> Tensor:
        return (schedule.alpha(times)[:, None, None] * data.sample(n, generator)).flatten(0, 1)

    def loss(repeats: int, n: int, generator: torch.Generator) -> Loss:
        rows = torch.randn(n, data.dim, dtype=torch.float64, generator=generator)
        return Linear(torch.nn.functional.normalize(rows).repeat(repeats, 1))

    return replace(base, states=states, loss=loss)


def cells(options: Options) -> list[Cell]:
    """Return one cell per problem and path, all solvers in it, with times at equal zeta."""
    zeta = torch.from_numpy(np.geomspace(1e-3, 1, 16 if options.quick else 25))
    problems = ("product256",) if options.quick else ("product256", "overlapping")
    settings = [Variant.of("end_to_end", solver=solver, steps=1) for solver in SHOWN]
    samples = 8 if options.quick else 32
    found = [
        error_cell(options, problem, path, zoo.ZOO_PATHS[path]().time_from_zeta(zeta).tolist(), samples, settings)
        for problem in problems
        for path in SHOWN_PATHS
    ]
    return [replace(cell, factory="toy_models.experiments.superconvergence:subject") for cell in found]


def in_zeta(solver: str) -> bool:
    """Say whether a solver steps in zeta; DDIM is Euler's method there."""
    return solver == "ddim" or solver.endswith("_zeta")


def mirrored(path: AffinePath) -> bool:
    """Say whether alpha is even and sigma odd in 1 - t, by their values on both sides of t = 1."""
    v = torch.linspace(0, 0.5, 9, dtype=torch.float64)
    even = torch.allclose(path._alpha(1 - v), path._alpha(1 + v), rtol=1e-12)
    return even and torch.allclose(path._sigma(1 - v), -path._sigma(1 + v), rtol=1e-12, atol=1e-15)


def zeta_rate(path: AffinePath) -> float:
    """Return the limit of d log zeta / d log(1 - t) at t = 1: one, or a half where sigma' is infinite there."""
    return 1.0 if math.isfinite(float(path.d_sigma(1.0))) else 0.5


def exponent(path: AffinePath, solver: str) -> int:
    """Return the exponent of one step's error in the solver's own coordinate, as the module's docstring derives it."""
    order = SOLVERS[solver].order
    if in_zeta(solver) or mirrored(path):
        return 2 * math.ceil((order + 1) / 2)
    gains = isinstance(path, CondOT) and order == 2 and TABLEAUX[solver].c[1] == 1 / 2
    return order + 1 + gains


def theory(path: str, solver: str, variable: str) -> float:
    """Return the exponent in a variable of ``VARIABLES``, whichever coordinate the solver steps in."""
    schedule = zoo.ZOO_PATHS[path]()
    rate = zeta_rate(schedule)
    own = exponent(schedule, solver)
    if in_zeta(solver):
        return own if variable == "zeta" else own * rate
    return own / rate if variable == "zeta" else own


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Fit the slopes in zeta and in 1 - t, beside theory; a solver that could not run is a row that says why."""
    by = ["problem", "path", "solver"]
    table = table.assign(h=1 - table["t"]) if "t" in table else table
    ran = table[table["status"] == "ok"]
    refused = table[table["status"] != "ok"].groupby(by, as_index=False)["status"].first()
    frames = [slopes(ran, by, column, POINTS).assign(variable=name) for name, column in VARIABLES.items()]
    fitted = pd.concat([*frames, *([refused.assign(variable="zeta")] if len(refused) else [])], ignore_index=True)
    expected = [theory(*key) for key in zip(fitted["path"], fitted["solver"], fitted["variable"], strict=True)]
    declared = [SOLVERS[solver].order for solver in fitted["solver"]]
    found = fitted.assign(theory=expected, declared=declared)
    return {"slopes": found, "facts": facts(table, found)}


def facts(table: pd.DataFrame, fitted: pd.DataFrame) -> pd.DataFrame:
    """Count agreements with theory in each solver's own variable, and give DDIM's slopes along linear VP."""
    fits = only(fitted, status="ok")
    own = fits[fits["variable"] == np.where(fits["solver"].map(in_zeta), "zeta", "1 - t")]
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
    h, value, zeta = (np.diff(np.log(v.to_numpy(float))) for v in (rows["h"], rows["value"], rows["zeta"]))
    row = {"vp_low": (value / zeta).min(), "vp_high": (value / zeta).max()}
    return row | {"vp_first": (value / h)[0], "vp_last": (value / h).max()}
