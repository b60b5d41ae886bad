"""When guidance matters, and when greedy's is good enough: the exact likelihood score, replaced for a third of time.

The oracle's ODE is solved with the exact score except in one window of time, in which it is left out ("without") or
replaced by greedy's gradient times a scale ("greedy"), or with the exact score in that window alone ("only"). The scale
is chosen on measurements that are not reported. All operators are measured at all three noise levels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import pandas as pd

from analysis import intervals
from analysis.experiment import Cell
from analysis.gradients import ESTIMATORS
from analysis.guidance import Sample, choose, oracle_ode
from analysis.guidance.likelihood import Score
from analysis.measurements import MeasuredBatch
from analysis.operators import OPERATORS
from analysis.paths import PATHS
from analysis.settings import Options
from analysis.tables import only
from toy_models.experiments import outcome
from toy_models.experiments.outcome import LIKELIHOOD, NOISE, OTHER_NOISES, STEPS
from toy_models.mixtures.gaussian import MixtureFlow
from toy_models.posteriors.replaced_score import Window, no_score, windowed
from toy_models.problems.zoo import build

SUITE = "guidance"
WINDOWS = ((0.0, 1 / 3), (1 / 3, 2 / 3), (2 / 3, 1.0))
KINDS = ("without", "greedy", "only")
MEASUREMENTS = 40


def cells(options: Options) -> list[Cell]:
    """Return a cell per operator and noise level."""
    places = [(operator, noise) for operator in OPERATORS for noise in (NOISE, *OTHER_NOISES)]
    made = []
    for operator, noise in places[:1] if options.quick else places:
        cell = outcome.cell(options, operator, noise, "oracle_ode")
        cell = cell if options.quick else replace(cell, samples=MEASUREMENTS)
        extra = *cell.extra, ("scales", LIKELIHOOD[2:4] if options.quick else LIKELIHOOD)
        made.append(replace(cell, measure=f"{__name__}:measure", extra=extra))
    return made


def greedy(flow: MixtureFlow, batch: MeasuredBatch, scale: float) -> Score:
    """Return the score function that is minus greedy's gradient times a scale."""
    rule, loss = ESTIMATORS["greedy"].rule, batch.loss()
    return lambda x, t: -scale * rule(flow, loss, x, t)[0]


def samples(flow: MixtureFlow, batch: MeasuredBatch, kind: str, window: Window, scale: float = 1.0) -> Sample:
    """Return the samples of the oracle's ODE with one kind of replacement."""
    exact = batch.score(flow.path)
    pairs = {"without": (no_score, exact), "only": (exact, no_score), "greedy": (greedy(flow, batch, scale), exact)}
    return oracle_ode(flow, batch.loss(), batch.x0, score=windowed(*pairs[kind], window), steps=STEPS)


def best_scale(flow: MixtureFlow, batch: MeasuredBatch, window: Window, scales: Sequence[float]) -> float:
    """Return greedy's scale of the least mean energy distance on a batch."""

    def run(scale: float) -> Sample:
        return samples(flow, batch, "greedy", window, scale)

    return choose(run, {"scale": scales}, score=batch.energy_distance).options["scale"]


def measure(cell: Cell) -> pd.DataFrame:
    """Return one row per window, kind and metric: means over measurements with their intervals."""
    flow, extra = build(cell.problem, PATHS[cell.path]()), cell.extra_dict
    assert isinstance(flow, MixtureFlow)
    place = cell.columns() | {"operator": extra["operator"], "noise": extra["noise"]}
    rows = _rows(flow, *outcome.tuning_and_reported(cell, flow), extra["scales"])
    return pd.DataFrame([place | row for row in rows])


def _rows(
    flow: MixtureFlow, tuning: MeasuredBatch, reported: MeasuredBatch, scales: Sequence[float]
) -> Iterator[dict[str, Any]]:
    for start, end in WINDOWS:
        for kind in KINDS:
            scale = best_scale(flow, tuning, (start, end), scales) if kind == "greedy" else 1.0
            sample = samples(flow, reported, kind, (start, end), scale)
            row = {"start": start, "end": end, "kind": kind, "scale": scale, "failed_samples": int(sample.failed.sum())}
            metrics = reported.metrics(reported.finished(sample))
            for metric in outcome.METRICS:
                yield row | {"metric": metric} | asdict(intervals.interval(metrics[metric]))


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Give the cost of greedy in place of the exact score in the first and in the last window of time."""
    rows = only(table, metric=outcome.DISTANCE, kind="greedy")
    early, late = (only(rows, start=start)["mean"].mean() for start in (rows["start"].min(), rows["start"].max()))
    row = {"early": early, "late": late, "costly": "early" if early > late else "late"}
    return {"facts": pd.DataFrame([row])}
