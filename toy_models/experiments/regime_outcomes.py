"""What a cell of ``regimes`` measures: one estimator in one regime on one operator, tuned alike over budgets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from analysis import sample_distances
from analysis.experiment import Cell
from analysis.fitted_search import FittedSearch
from analysis.guidance.dial import ladder
from analysis.guidance.regimes import REGIMES, Regime, gradient_in
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


def regime_of(name: str) -> Regime:
    """Return a regime by name; "source_own" is source optimisation whose samples are the estimator's own endpoints."""
    source = REGIMES["source"]
    return replace(source, options={**source.options, "end": "own"}) if name == "source_own" else REGIMES[name]


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


def measure(cell: Cell) -> pd.DataFrame:
    """Return a row per budget, aim, metric and measurement."""
    flow, tuning, reported = batches(cell)
    extra, estimator = cell.extra_dict, cell.variants[0].estimator
    place = cell.columns() | {"truth": "exact", "estimator": estimator, "samples": reported.members}
    place |= {name: extra[name] for name in ("regime", "operator", "noise")}
    choice = gradient_in(extra["regime"], estimator, ESTIMATORS)
    search = Search(flow, regime_of(extra["regime"]), choice, tuning, metrics, AIMS, cell.seed)
    return pd.DataFrame([place | row for row in over_budgets(search, reported, extra)])


def measure_fitted(cell: Cell) -> pd.DataFrame:
    """Return the same of an estimator whose cost depends on the state."""
    flow, tuning, reported = batches(cell)
    extra, estimator = cell.extra_dict, cell.variants[0].estimator
    place = cell.columns() | {"truth": "exact", "estimator": estimator, "samples": reported.members}
    place |= {name: extra[name] for name in ("regime", "operator", "noise")}
    choice = gradient_in(extra["regime"], estimator, ESTIMATORS)
    search = FittedSearch(flow, regime_of(extra["regime"]), choice, tuning, metrics, AIMS, cell.seed)
    return pd.DataFrame([place | row for row in over_budgets(search, reported, extra)])


def over_budgets(
    search: Search[MeasuredBatch], reported: MeasuredBatch, extra: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of all budgets.

    ``trials`` are all over the ranges until a budget has paid for a few moves; at each larger one the ``kept`` best of
    the smaller budgets run again; and at each some run near the best by each aim (``nearer``). The best of all that
    were tried within a budget is reported for it.

    Yields
    ------
    dict
        A row per budget, aim, metric and measurement.
    """
    known: list[Tried] = []
    for budget in extra["budgets"]:
        known += search.grown(known, extra["trials"], extra["kept"], budget)
        for aim in AIMS if known else ():
            known += search.near(known, aim, extra["nearer"], budget)
        yield from at_budget(search, known, budget, reported)


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
