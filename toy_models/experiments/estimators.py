"""Every registered estimator on the zoo, against two references: the ideal gradient and the exact likelihood score.

The loss of a zoo cell, half the squared distance to y, is minus the log-likelihood of y = X_1 + N(0, I). Posterior
guidance therefore needs the exact gradient of -log p(y | x_t).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import torch

from analysis.experiment import Cell, StateBatch, rows_of, sample_states
from analysis.losses import HalfSquaredDistance
from analysis.reference import Reference
from analysis.settings import Options
from analysis.tables import only
from toy_models.cells import error_cell
from toy_models.experiments.common import variants
from toy_models.posteriors.dense import likelihood_score
from toy_models.problems.zoo import PROBLEMS

SUITE = "theory"


def cells(options: Options) -> list[Cell]:
    """Return one cell per problem with all estimators in it."""
    problems = ("overlapping",) if options.quick else tuple(PROBLEMS)
    own: dict[str, Any] = {"measure": f"{__name__}:measure", "track_memory": True}
    samples = 8 if options.quick else 32
    return [error_cell(options, problem, "condot", [0.2], samples, variants(options), **own) for problem in problems]


def measure(cell: Cell) -> pd.DataFrame:
    """Return the rows for both references, named in the column ``against``."""
    batch = sample_states(cell)
    both = {"ideal gradient": batch, "likelihood score": likelihood_truth(batch)}
    rows = [
        row | {"against": name}
        for name, against in both.items()
        for variant in cell.variants
        for row in rows_of(cell, against, variant)
    ]
    return pd.DataFrame(rows)


def likelihood_truth(batch: StateBatch) -> StateBatch:
    """Return the same states with minus the likelihood score as their reference."""
    assert isinstance(batch.loss, HalfSquaredDistance)
    eye = torch.eye(batch.x.shape[1], dtype=torch.float64)
    score = likelihood_score(batch.subject.reference_flow, eye, batch.loss.target, eye, batch.x, batch.t)
    # The score is a difference of two, each good to round-off over alpha.
    bound = 1e-14 / batch.subject.reference_flow.path.alpha(batch.t)
    reference = Reference(-score, batch.x, "exact", bound)
    return replace(batch, reference=reference, columns=batch.columns | {"truth": "exact"})


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Select each estimator's and solver's variant nearest 16 evaluations, and take medians over problems."""
    table = table.dropna(subset=["value"])
    keys = ["estimator", "solver", "options", "fraction", "steps"]
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
    """Give the estimator that is nearest each reference, and the evaluations of the chosen variants."""
    row: dict[str, Any] = {"problems": table["problem"].nunique(), "t": table["t"].iloc[0]}
    for name, against in (("ideal", "ideal gradient"), ("score", "likelihood score")):
        errors = only(chosen, against=against, metric="relative_error")
        best = errors.loc[errors["value"].idxmin()]
        row |= {name: best["estimator"], f"{name}_error": best["value"]}
    row |= {"nearest": "same" if row["ideal"] == row["score"] else "differ"}
    spent = chosen["evaluations"]
    return pd.DataFrame([row | {"evaluations_low": spent.min(), "evaluations_high": spent.max()}])
