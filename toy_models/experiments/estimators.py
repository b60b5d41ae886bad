"""Every registered estimator on the zoo, against two truths: the ideal gradient and the exact likelihood score.

The loss of a zoo cell, half the squared distance to y, is minus the log-likelihood of y = X_1 + N(0, I), so that the
exact gradient of -log p(y | x_t) is the truth that posterior guidance would want.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import torch

from analysis.experiment import Cell, Draw, draw, rows_of
from analysis.gradients import ESTIMATORS
from analysis.losses import HalfSquaredDistance
from analysis.reference import Reference
from analysis.settings import Options, Variant
from analysis.tables import only
from toy_models.cells import error_cell
from toy_models.posteriors.dense import likelihood_score
from toy_models.problems.zoo import PROBLEMS

SUITE = "theory"


def cells(options: Options) -> list[Cell]:
    """Return one cell per problem with all estimators in it."""
    settings = [Variant.of(name, **variant) for name, found in ESTIMATORS.items() for variant in found.variants]
    problems = ("overlapping",) if options.quick else tuple(PROBLEMS)
    samples = 8 if options.quick else 32
    found = [error_cell(options, p, "condot", [0.2], samples, settings, track_memory=True) for p in problems]
    return [replace(cell, measure="toy_models.experiments.estimators:measure") for cell in found]


def measure(cell: Cell) -> pd.DataFrame:
    """Return the rows of both truths; ``against`` says which."""
    drawn = draw(cell)
    both = {"ideal gradient": drawn, "likelihood score": likelihood_truth(drawn)}
    rows = [
        row | {"against": name}
        for name, against in both.items()
        for setting in cell.settings
        for row in rows_of(cell, against, setting)
    ]
    return pd.DataFrame(rows)


def likelihood_truth(drawn: Draw) -> Draw:
    """Return the same states with minus the likelihood score as their reference."""
    assert isinstance(drawn.loss, HalfSquaredDistance)
    eye = torch.eye(drawn.x.shape[1], dtype=torch.float64)
    score = likelihood_score(drawn.subject.reference_flow, eye, drawn.loss.target, eye, drawn.x, drawn.t)
    # The score is a difference of two, each good to round-off over alpha.
    bound = 1e-14 / drawn.subject.reference_flow.path.alpha(drawn.t)
    reference = Reference(-score, drawn.x, "exact", bound)
    return replace(drawn, reference=reference, rows=drawn.rows | {"truth": "exact"})


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Select a variant per estimator and solver, that with evaluations nearest 16, and take medians over problems."""
    table = table.dropna(subset=["value"])
    keys = ["estimator", "solver", "options", "horizon", "steps"]
    size = table.groupby(keys, dropna=False)["evaluations"].median().reset_index()
    size["distance"] = (size["evaluations"] / 16).apply(lambda ratio: max(ratio, 1 / ratio))
    best = size.sort_values(["distance", *keys]).groupby(["estimator", "solver"], dropna=False).head(1)[keys]
    chosen = table.merge(best, on=keys)
    grouped = chosen.groupby([*keys, "against", "metric"], dropna=False)
    columns = {
        "value": ("value", "median"),
        "low": ("value", lambda v: v.quantile(0.25)),
        "high": ("value", lambda v: v.quantile(0.75)),
    }
    columns |= {"evaluations": ("evaluations", "median"), "vjps": ("vjps", "median"), "bytes": ("bytes", "median")}
    chosen = grouped.agg(**columns).reset_index()
    return {"chosen": chosen, "facts": facts(table, chosen)}


def facts(table: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """Name the estimator that is nearest each reference, and say how many evaluations the chosen variants take."""
    row: dict[str, Any] = {"problems": table["problem"].nunique(), "t": table["t"].iloc[0]}
    for name, against in (("ideal", "ideal gradient"), ("score", "likelihood score")):
        errors = only(chosen, against=against, metric="relative_error")
        best = errors.loc[errors["value"].idxmin()]
        row |= {name: best["estimator"], f"{name}_error": best["value"]}
    row |= {"nearest": "same" if row["ideal"] == row["score"] else "differ"}
    spent = chosen["evaluations"]
    return pd.DataFrame([row | {"evaluations_low": spent.min(), "evaluations_high": spent.max()}])
