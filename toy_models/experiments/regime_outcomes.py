"""The problem of ``regimes`` and of those beside it: gradients, measurements, and outcomes within a budget."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from analysis import sample_distances
from analysis.experiment import Cell
from analysis.guidance.dial import ladder
from analysis.guidance.registry import Sample
from analysis.measurements import MeasuredBatch
from analysis.operators import inverse_problem
from analysis.paths import PATHS
from analysis.search import Search, Tried, best_runs
from analysis.settings import Variant
from toy_models.mixtures.gaussian import MixtureFlow
from toy_models.mixtures.low_rank import LowRankMixtureFlow
from toy_models.posteriors.measurements import measured_batch
from toy_models.problems import mnist
from toy_models.problems.zoo import build

STEPS = 16
DIAL = ladder(STEPS)
_NAMES = ("greedy", "two_step_euler", "midpoint", "midpoint_4", "end_to_end")
ESTIMATORS = {**{name: DIAL[name] for name in _NAMES}, "adaptive": Variant.of("adaptive", tolerance=0.3)}
AIMS = {"misfit": 1, "energy_distance": 1}
RANGE = 2.0  # of the data, for PSNR: pixels lie in [-1, 1]
SIDES = {"digits": 8, "mnist": mnist.SIDE}


def batches(cell: Cell) -> tuple[MixtureFlow | LowRankMixtureFlow, MeasuredBatch, MeasuredBatch]:
    """Return the cell's flow, measurements to tune on and those to report, of images drawn from the flow's mixture.

    The draws do not depend on the estimator or the regime, so all of an operator share their measurements.

    Returns
    -------
    tuple
        The flow and the two batches.
    """
    extra, generator, path = cell.extra_dict, cell.generator(), PATHS[cell.path]()
    flow = mnist.flow(path) if cell.problem == "mnist" else build(cell.problem, path)
    assert isinstance(flow, MixtureFlow | LowRankMixtureFlow)
    problem = inverse_problem(extra["operator"], SIDES[cell.problem], extra["noise"])
    sizes = {"members": extra["members"], "exact": extra["exact"]}
    parts = [
        measured_batch(flow.mixture, problem, flow.mixture.sample(count, generator), generator, **sizes)
        for count in (extra["held_out"], cell.samples)
    ]
    return flow, parts[0], parts[1]


def at_budget(
    search: Search[MeasuredBatch], known: list[Tried], budget: float, reported: MeasuredBatch
) -> Iterator[dict[str, Any]]:
    """Yield the rows of the best of the known trials, by aim."""
    for row, sample in best_runs(search, known, budget, reported):
        if sample is None:
            yield row
            continue
        row |= {"status": "ok", "evaluations": sample.cost.evaluations, "vjps": sample.cost.vjps}
        yield from (row | value for value in _values(sample, reported))


def metrics(sample: Sample, batch: MeasuredBatch) -> dict[str, Tensor]:
    """Return {metric: (Y,)}, with NaN for a measurement with a diverged sample."""
    x = batch.finished(sample)
    usable = torch.isfinite(x).flatten(1).all(1)
    safe = torch.where(usable[:, None, None], x, 0.0)
    values = {
        "energy_distance": sample_distances.energy_distance(safe, batch.exact.samples),
        "mean_error": sample_distances.mean_error(safe, batch.exact.law.mean),
        "misfit": batch.misfit(safe),
        "psnr": 10 * torch.log10(RANGE**2 / (safe - batch.clean[:, None]).square().mean((1, 2))),
    }
    return {name: torch.where(usable, value, torch.nan) for name, value in values.items()}


def _values(sample: Sample, batch: MeasuredBatch) -> Iterator[dict[str, Any]]:
    failed = int(sample.failed.sum())
    for metric, values in metrics(sample, batch).items():
        for i, value in enumerate(values.tolist()):
            yield {"metric": metric, "measurement": i, "value": value, "failed_samples": failed}
