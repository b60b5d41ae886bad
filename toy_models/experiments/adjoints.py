"""Discretise-then-optimise against optimise-then-discretise, over steps: their errors against two references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import relative_error, summary
from analysis.experiment import Cell, estimate, sample_states
from analysis.settings import Options, Variant
from analysis.tables import only
from toy_models.cells import error_cell

SUITE = "theory"
STRATEGIES = ("end_to_end", "adjoint_backsolve", "adjoint_cached", "adjoint_interpolated", "adjoint_deis")
SPEC: dict[str, dict[str, Any]] = {
    "quick": {"problems": ("product256",), "doublings": 5, "samples": 8},
    "full": {"problems": ("overlapping", "anisotropic", "digits"), "doublings": 7, "samples": 24},
}


def cells(options: Options) -> list[Cell]:
    """Return one cell per problem."""
    spec = options.of(SPEC)
    steps = [2**k for k in range(1, spec["doublings"] + 1)]
    variants = [Variant.of(w, solver=s, steps=n) for s in ("euler", "rk4") for w in STRATEGIES[:4] for n in steps]
    variants += [Variant.of("end_to_end", solver="ddim", steps=n) for n in steps]
    variants += [Variant.of("adjoint_deis", steps=n, order=order) for order in (1, 2) for n in steps]
    measure = f"{__name__}:measure"
    return [
        error_cell(options, problem, "condot", [0.2], spec["samples"], variants, measure=measure)
        for problem in spec["problems"]
    ]


def measure(cell: Cell) -> pd.DataFrame:
    """Measure each variant against the ideal gradient and against the exact gradient of its discrete map.

    The discrete map is the forward solve with the same steps: the solver's, or DDIM's for AdjointDEIS of order 1.

    Returns
    -------
    DataFrame
        One row per variant and reference.
    """
    batch = sample_states(cell)
    gradients = {variant: estimate(cell, batch, variant).gradient for variant in cell.variants}
    rows = []
    for variant, gradient in gradients.items():
        options = dict(variant.options)
        order = options.get("order")
        solver = options.get("solver", "ddim")
        base = Variant.of("end_to_end", solver=solver, steps=options["steps"])
        truths = {"ideal": batch.reference.gradient} | ({"discrete": gradients[base]} if order != 2 else {})
        named = {"estimator": variant.estimator, "solver": options.get("solver"), "order": order}
        for against, truth in truths.items():
            row = batch.columns | named | {"steps": options["steps"], "against": against, "metric": "relative_error"}
            rows.append(row | summary(relative_error(gradient, truth)))
    return pd.DataFrame(rows)


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Give backsolve's distance from its own discrete gradient, and how often end-to-end is nearest the ideal one."""
    steps = int(table["steps"].max())
    off, half = (
        only(table, estimator="adjoint_backsolve", solver="euler", against="discrete", steps=n).set_index("problem")
        for n in (steps, steps // 2)
    )
    rates = np.log2(off["value"] / half["value"])
    ideal = only(table, against="ideal", steps=steps)
    nearest = ideal.loc[ideal.dropna(subset="solver").groupby(["problem", "solver"])["value"].idxmin()]
    nearest = only(nearest, solver=["euler", "rk4"])
    row = {"steps": steps, "off_low": off["value"].min(), "off_high": off["value"].max()}
    row |= {"rate_low": rates.min(), "rate_high": rates.max(), "places": len(nearest)}
    row |= {"falls": bool(rates.max() < 0)} if rates.notna().any() else {}
    return {"facts": pd.DataFrame([row | {"nearest": int((nearest["estimator"] == "end_to_end").sum())}])}
