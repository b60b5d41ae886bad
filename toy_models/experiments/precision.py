"""Parts of an estimator's error: discretisation, adjoint inconsistency, floating point."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import torch

from analysis.errors import relative_error, summary
from analysis.experiment import Cell, estimate, sample_states
from analysis.settings import DTYPES, Options, Variant, resolve
from toy_models.cells import error_cell

SUITE = "theory"
VARIANTS = (
    Variant.of("greedy"),
    Variant.of("lookahead", solver="midpoint", steps=4, horizon_fraction=0.8),
    Variant.of("end_to_end", solver="euler", steps=16),
    Variant.of("end_to_end", solver="rk4", steps=16),
    Variant.of("end_to_end", solver="rk4", steps=128),
    Variant.of("adjoint_backsolve", solver="euler", steps=16),
    Variant.of("adjoint_backsolve", solver="rk4", steps=16),
    Variant.of("adjoint_cached", solver="euler", steps=16),
)
DISCRETE = {"adjoint_backsolve": "end_to_end", "adjoint_cached": "end_to_end"}


def cells(options: Options) -> list[Cell]:
    """Return one cell per problem."""
    problems = ("product256",) if options.quick else ("overlapping", "ring8", "anisotropic", "digits")
    samples, measure = 8 if options.quick else 32, f"{__name__}:measure"
    return [error_cell(options, p, "condot", [0.4], samples, VARIANTS, measure=measure) for p in problems]


def _variants(cell: Cell) -> dict[str, tuple[str, bool]]:
    """Return the arithmetics to compare: dtype, and whether TF32 is allowed, which needs a GPU."""
    arithmetics = {name: (name, False) for name in DTYPES if name != "float64"}
    return arithmetics | ({"tf32": ("float32", True)} if cell.device.startswith("cuda") else {})


def measure(cell: Cell) -> pd.DataFrame:
    """Return one row per variant and part of its error, relative to the gradient that the part compares with."""
    batch = sample_states(cell)
    double = {s: estimate(cell, batch, s).gradient for s in cell.variants}
    rows = [row for s in cell.variants for row in _parts(s, double, batch.reference.gradient)]
    for name, (dtype, tf32) in _variants(cell).items():
        torch.backends.cuda.matmul.allow_tf32 = tf32
        low = replace(cell, dtype=dtype)
        subject = resolve(cell.factory)(cell.problem, cell.path, dtype, cell.device)
        for s in cell.variants:
            gradient = estimate(low, replace(batch, subject=subject), s).gradient.double()
            rows.append(_row(s, f"floating point, {name}", gradient, double[s]))
    torch.backends.cuda.matmul.allow_tf32 = False
    return pd.DataFrame([batch.columns | row for row in rows])


def _parts(s: Variant, double: dict[Variant, torch.Tensor], ideal: torch.Tensor) -> list[dict[str, object]]:
    base = Variant(DISCRETE.get(s.estimator, s.estimator), s.options)
    rows = [_row(s, "total, float64", double[s], ideal), _row(s, "discretisation", double[base], ideal)]
    return rows + ([_row(s, "adjoint inconsistency", double[s], double[base])] if base != s else [])


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Count where an arithmetic's error exceeds the whole float64 error, and give the largest part elsewhere."""
    keys = ["problem", "estimator", "solver", "steps"]
    wide = table.pivot_table(index=keys, columns="part", values="value", dropna=False).dropna(subset="total, float64")
    row: dict[str, Any] = {"count": len(wide)}
    for name in ("float32", "bfloat16"):
        row[name] = int((wide[f"floating point, {name}"] > wide["total, float64"]).sum())
    solver = wide[wide["floating point, float32"] <= wide["total, float64"]]
    if len(solver):
        adjoint = int((solver["adjoint inconsistency"] > solver["discretisation"]).sum())
        row |= {"adjoint": adjoint, "discretisation": len(solver) - adjoint}
        row["largest"] = "both" if adjoint else "discretisation"
    return {"facts": pd.DataFrame([row])}


def _row(s: Variant, part: str, gradient: torch.Tensor, truth: torch.Tensor) -> dict[str, object]:
    options = dict(s.options)
    named = {"estimator": s.estimator, "solver": options.get("solver"), "steps": options.get("steps"), "part": part}
    return named | {"metric": "relative_error"} | summary(relative_error(gradient, truth))
