"""Which gradient pays in which regime, over budgets: estimators in all regimes, tuned alike, on the 8x8 digits.

A cell is one estimator in one regime on one operator. At each budget (evaluations and products per sample) every
estimator gets the same number of trials, on measurements that are not reported: some all over the ranges of the regime,
then some near the best of them. There are two aims, the objective's own (the misfit) and the distance to the exact
posterior; the best trial by each aim is run on other measurements.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis import intervals, sample_distances
from analysis.experiment import Cell
from analysis.guidance.dial import ladder
from analysis.guidance.regimes import REGIMES
from analysis.guidance.registry import Sample
from analysis.measurements import MeasuredBatch
from analysis.paths import PATHS
from analysis.search import Search
from analysis.settings import Options, Variant
from toy_models.experiments import outcome
from toy_models.mixtures.gaussian import MixtureFlow
from toy_models.problems.zoo import build

SUITE = "guidance"
STEPS = 16
DIAL = ladder(STEPS)
_NAMES = ("greedy", "two_step_euler", "midpoint", "midpoint_4", "end_to_end")
ESTIMATORS = {
    **{name: DIAL[name] for name in _NAMES},
    "adaptive": Variant.of("adaptive", tolerance=0.3),
}
OPERATORS = ("box_inpainting", "random_inpainting", "super_resolution_2", "gaussian_deblurring", "compressed_sensing")
BUDGETS = tuple(48 * 2**k for k in range(6))
NOISE = 0.1
TRIALS, NEARER = 8, 3  # all over the ranges, and then near the best by each aim
AIMS = {"misfit": 1, "energy_distance": 1}
RANGE = 2.0  # of the data, for PSNR: pixels lie in [-1, 1]
BASELINE = "greedy"
KEYS = ["problem", "regime", "estimator", "aim", "budget", "metric"]


def cells(options: Options) -> list[Cell]:
    """Return a cell per operator, regime and estimator."""
    quick = options.quick
    operators = OPERATORS[:1] if quick else OPERATORS
    regimes = ("guidance", "source") if quick else tuple(REGIMES)
    estimators = ("greedy", "midpoint") if quick else tuple(ESTIMATORS)
    return [_cell(options, o, r, e) for o in operators for r in regimes for e in estimators]


def _cell(options: Options, operator: str, regime: str, estimator: str) -> Cell:
    quick = options.quick
    sizes = {"members": 2, "exact": 16, "held_out": 4} if quick else {"members": 4, "exact": 64, "held_out": 6}
    sizes |= {"trials": 2, "nearer": 1} if quick else {"trials": TRIALS, "nearer": NEARER}
    return Cell(
        measure=f"{__name__}:measure",
        factory="toy_models.problems.zoo:build",
        problem="digits",
        path="condot",
        samples=4 if quick else 20,
        variants=(Variant.of(estimator),),
        seed=options.seed,
        extra=(
            ("regime", regime),
            ("operator", operator),
            ("noise", NOISE),
            ("budgets", BUDGETS[:2] if quick else BUDGETS),
            *sizes.items(),
        ),
    )


def measure(cell: Cell) -> pd.DataFrame:
    """Return a row per budget, aim, metric and measurement."""
    flow = build(cell.problem, PATHS[cell.path]())
    assert isinstance(flow, MixtureFlow)
    tuning, reported = outcome.tuning_and_reported(cell, flow)
    extra, estimator = cell.extra_dict, cell.variants[0].estimator
    place = cell.columns() | {"truth": "exact", "estimator": estimator, "samples": reported.members}
    place |= {name: extra[name] for name in ("regime", "operator", "noise")}
    search = Search(flow, REGIMES[extra["regime"]], ESTIMATORS[estimator], tuning, metrics, AIMS, cell.seed)
    counts = extra["trials"], extra["nearer"]
    rows = (place | row for budget in extra["budgets"] for row in rows_of(search, budget, reported, counts))
    return pd.DataFrame(list(rows))


def rows_of(
    search: Search, budget: float, reported: MeasuredBatch, counts: tuple[int, int]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one budget, with so many trials all over the ranges and near the best of them."""
    first, nearer = counts
    wide = search.wide(first, budget)
    known: dict[str, Sample] = {}
    for aim in AIMS:
        if not wide:
            yield {"budget": budget, "aim": aim, "status": "not one step fits into the budget"}
            continue
        best = search.near(wide, aim, nearer, budget)
        chosen = json.dumps(best.trial, sort_keys=True)
        if chosen not in known:
            known[chosen] = search.run(best.options, reported)
        sample, row = known[chosen], {"budget": budget, "aim": aim, "status": "ok", "chosen": chosen}
        row |= {"count": best.options[search.regime.counted], "at_end_of_range": search.regime.near_end(best.trial)}
        row |= {"evaluations": sample.cost.evaluations, "vjps": sample.cost.vjps}
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


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the outcome over budgets, and the facts in the caption."""
    summary, chosen = summarise(table), choices(table)
    return {"summary": summary, "choices": chosen, "facts": facts(summary, chosen)}


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Compute medians over measurements, their mean over operators with Student's interval, and failures.

    ``failed`` is the share of measurements with a diverged sample; the medians leave these out. ``over_greedy...`` is
    the geometric mean over operators of the median over greedy's, with its interval, where all are positive.

    Returns
    -------
    DataFrame
        One row per regime, estimator, budget, aim and metric.
    """
    groups = table[table["status"] == "ok"].groupby([*KEYS, "operator"], sort=False)["value"]
    lost = groups.agg(lambda values: values.isna().mean()).groupby(level=KEYS, sort=False).mean()
    medians = groups.median().unstack("operator", sort=False)
    rows = []
    for key, some in medians.iterrows():
        place = dict(zip(KEYS, key, strict=True))
        mean = intervals.interval_of_few(some.dropna().to_numpy())
        row = place | {"mean": mean.mean, "low": mean.low, "high": mean.high, "operators": int(some.count())}
        greedy = tuple((place | {"estimator": BASELINE}).values())
        ratio = geometric(some / (medians.loc[greedy] if greedy in medians.index else np.nan))
        rows.append(row | {f"over_{BASELINE}_{end}": value for end, value in ratio.items()} | {"failed": lost[key]})
    return pd.DataFrame(rows)


def geometric(ratios: pd.Series) -> dict[str, float]:
    """Return the geometric mean of a few positive ratios and Student's interval of it; NaN where one is not finite."""
    if not (np.isfinite(ratios) & (ratios > 0)).all():
        return dict.fromkeys(("mean", "low", "high"), np.nan)
    found = intervals.interval_of_few(np.log(ratios.to_numpy()))
    return {"mean": np.exp(found.mean), "low": np.exp(found.low), "high": np.exp(found.high)}


def choices(table: pd.DataFrame) -> pd.DataFrame:
    """Return the chosen trials, one row per operator, regime, estimator, budget and aim."""
    columns = ["problem", "operator", "regime", "estimator", "budget", "aim", "chosen", "count", "at_end_of_range"]
    return table.loc[table["status"] == "ok", columns].drop_duplicates(ignore_index=True)


def facts(summary: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """Return one row: the outcomes at the largest budget by regime and aim, and how often a choice is at an end."""
    row: dict[str, Any] = {"at_end_of_range": float(chosen["at_end_of_range"].mean())}
    row |= {"budget": int(summary["budget"].max()), "operators": int(summary["operators"].max())}
    last = summary[(summary["budget"] == row["budget"]) & (summary["metric"] == summary["aim"])]
    for (regime, metric), rows in last.groupby(["regime", "metric"]):
        by_name = rows.set_index("estimator")
        values = by_name["mean"]
        row[f"{regime}_{metric}_best"] = str(values.idxmin()) if np.isfinite(values).any() else None
        row |= {f"{regime}_{metric}_{name}": float(value) for name, value in values.items()}
        row[f"{regime}_{metric}_order"] = _order(by_name)
    return pd.DataFrame([row])


def _order(by_name: pd.DataFrame) -> str | None:
    """Return "end" (end-to-end) or "greedy", the one with the lower outcome if their ratio's interval excludes 1."""
    if "end_to_end" not in by_name.index:
        return None
    end = by_name.loc["end_to_end"]
    if end[f"over_{BASELINE}_high"] < 1:
        return "end"
    return BASELINE if end[f"over_{BASELINE}_low"] > 1 else None
