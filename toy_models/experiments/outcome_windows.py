"""When guidance matters, and when greedy's is good enough: the exact likelihood score, replaced in a third of time.

The oracle's ODE is solved with the exact score but for one window of time, in which it is left out ("without") or
replaced by greedy's gradient times a scale ("greedy"), or with the exact score in that window alone ("only"). The scale
is chosen on measurements that are not reported. All operators are here, at all three noise levels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from analysis import intervals
from analysis.experiment import Cell
from analysis.gradients import ESTIMATORS
from analysis.guidance import SAMPLERS, Sample
from analysis.guidance.likelihood import Score
from analysis.operators import OPERATORS
from analysis.paths import PATHS
from analysis.settings import Options
from toy_models.experiments import outcome
from toy_models.experiments.outcome import LIKELIHOOD, NOISE, OTHER_NOISES, STEPS, Split
from toy_models.mixtures.gaussian import MixtureFlow
from toy_models.problems.zoo import build

WINDOWS = ((0.0, 1 / 3), (1 / 3, 2 / 3), (2 / 3, 1.0))
KINDS = ("without", "greedy", "only")
MEASUREMENTS = 40


def cells(options: Options) -> list[Cell]:
    """Return a cell per operator and noise level."""
    places = [(operator, noise) for operator in OPERATORS for noise in (NOISE, *OTHER_NOISES)]
    found = []
    for operator, noise in places[:1] if options.quick else places:
        cell = outcome.cell(options, operator, noise, "oracle_ode")
        cell = cell if options.quick else replace(cell, samples=MEASUREMENTS)
        extra = *cell.extra, ("scales", LIKELIHOOD[2:4] if options.quick else LIKELIHOOD)
        found.append(replace(cell, measure="toy_models.experiments.outcome_windows:measure", extra=extra))
    return found


def windowed(inside: Score, outside: Score, window: tuple[float, float]) -> Score:
    """Return the score that is ``inside`` for times in the window, which holds its start, and ``outside`` elsewhere."""
    return lambda x, t: (inside if window[0] <= float(t) < window[1] else outside)(x, t)


def none(x: Tensor, t: Tensor) -> Tensor:
    """Return no guidance."""
    return torch.zeros_like(x)


def greedy(flow: MixtureFlow, split: Split, scale: float) -> Score:
    """Return minus greedy's gradient times a scale."""
    rule, loss = ESTIMATORS["greedy"].rule, split.measured.loss(split.members)
    return lambda x, t: -scale * rule(flow, loss, x, t)[0]


def solved(flow: MixtureFlow, split: Split, kind: str, window: tuple[float, float], scale: float = 1.0) -> Sample:
    """Return the samples of one kind of replacement."""
    exact = split.measured.score(split.members)
    pairs = {"without": (none, exact), "only": (exact, none), "greedy": (greedy(flow, split, scale), exact)}
    score = windowed(*pairs[kind], window)
    return SAMPLERS["oracle_ode"](flow, split.measured.loss(split.members), split.x0, score=score, steps=STEPS)


def tuned(flow: MixtureFlow, split: Split, window: tuple[float, float], scales: Sequence[float]) -> float:
    """Return greedy's best scale on a split, by the mean energy distance."""
    distances = {s: float(split.distances(solved(flow, split, "greedy", window, s))[0]) for s in scales}
    return min(distances, key=lambda s: distances[s] if math.isfinite(distances[s]) else math.inf)


def measure(cell: Cell) -> pd.DataFrame:
    """Return one row per window, kind and metric: means over measurements with their intervals."""
    flow, extra, generator = build(cell.problem, PATHS[cell.path]()), dict(cell.extra), cell.generator()
    assert isinstance(flow, MixtureFlow)
    tuning, reported = (Split.draw(flow, cell, n, generator) for n in (extra["held_out"], cell.samples))
    place = {"problem": cell.problem, "path": cell.path, "operator": extra["operator"], "noise": extra["noise"]}
    return pd.DataFrame([place | row for row in _rows(flow, tuning, reported, extra["scales"])])


def _rows(flow: MixtureFlow, tuning: Split, reported: Split, scales: Sequence[float]) -> Iterator[dict[str, Any]]:
    for start, end in WINDOWS:
        for kind in KINDS:
            scale = tuned(flow, tuning, (start, end), scales) if kind == "greedy" else 1.0
            found = solved(flow, reported, kind, (start, end), scale)
            row = {"start": start, "end": end, "kind": kind, "scale": scale, "failed_samples": int(found.failed.sum())}
            judged = reported.measured.judge(reported.sets(found.x), reported.exact)
            for metric in outcome.METRICS:
                yield row | {"metric": metric} | asdict(intervals.interval(judged[metric]))
