"""The outcomes of what guidance aims at: exact samples of the posterior, and its mean, which has the best PSNR.

They stand beside those of ``regimes``, whose measurements and metrics these are. Exact samples that are independent of
those compared with have an energy distance of zero in expectation; the mean, as one image for all samples, has not.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from analysis import intervals
from analysis.cost import Cost
from analysis.experiment import Cell
from analysis.guidance.registry import Sample
from analysis.settings import Options
from toy_models.experiments import regimes
from toy_models.experiments.regime_outcomes import batches, metrics

SUITE = "guidance"
KEYS = ["problem", "noise", "reference", "metric"]


def cells(options: Options) -> list[Cell]:
    """Return one cell for each problem, noise and operator of ``regimes``."""
    made = dict[tuple[str, float, str], Cell]()
    for cell in regimes.cells(options):
        place = (cell.problem, cell.extra_dict["noise"], cell.extra_dict["operator"])
        extra = tuple(pair for pair in cell.extra if pair[0] in ("operator", "noise", "members", "exact", "held_out"))
        made.setdefault(place, replace(cell, measure=f"{__name__}:measure", variants=(), dtype="float64", extra=extra))
    return [*made.values()]


def measure(cell: Cell) -> pd.DataFrame:
    """Return a row per reference, metric and measurement."""
    _, _, batch = batches(cell)
    exact, shape = batch.exact.independent, batch.exact.independent.shape
    sets = {"exact_samples": exact, "posterior_mean": batch.exact.law.mean[:, None].expand(shape)}
    rows = [
        {"reference": name, "metric": metric, "measurement": i, "value": value}
        for name, x in sets.items()
        for metric, values in metrics(_finished(x.flatten(0, 1)), batch).items()
        for i, value in enumerate(values.tolist())
    ]
    place = cell.columns() | {"truth": "exact", "samples": batch.members}
    place |= {name: cell.extra_dict[name] for name in ("operator", "noise")}
    return pd.DataFrame([place | row for row in rows])


def _finished(x: Tensor) -> Sample:
    return Sample(x, x.sum(1), Cost(), torch.full((len(x),), -1))


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the mean over operators of medians over measurements, as ``regimes`` has it, and its interval."""
    medians = table.groupby([*KEYS, "operator"], sort=False)["value"].median()
    rows = []
    for key, some in medians.groupby(level=KEYS, sort=False):
        mean = intervals.interval_of_few(some.to_numpy())
        row = dict(zip(KEYS, key, strict=True)) | {"mean": mean.mean, "low": mean.low, "high": mean.high}
        rows.append(row | {"operators": len(some)})
    return {"summary": pd.DataFrame(rows)}
