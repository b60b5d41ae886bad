"""The options of a sampler in a regime, found by trials within a budget of evaluations and products.

Every estimator gets the same number of trials, on measurements that are not reported: some all over the ranges of its
regime, and some near the best of these. A trial within a budget has as many steps or iterations as that pays for. What
has been tried with a smaller budget stays known: a budget is a limit, and the best within it may spend less.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from analysis.flow import Flow
from analysis.guidance.dial import Choice
from analysis.guidance.regimes import Regime, count_within
from analysis.guidance.registry import SAMPLERS, Sample
from analysis.guidance.tuning import around, trials
from analysis.losses import Loss


class Noisy(Protocol):
    """A problem with a noise level, the unit of scales."""

    @property
    def noise(self) -> float:
        """The noise level."""


class Batch(Protocol):
    """What samplers are tried on, as ``MeasuredBatch`` is: noise x0 (B, ...) to start from, and a loss per sample."""

    @property
    def x0(self) -> Tensor:
        """The noise (B, ...)."""

    @property
    def problem(self) -> Noisy:
        """The problem of which the batch is."""

    def loss(self) -> Loss:
        """Return the loss of the batch's samples."""

    def part(self, rows: slice, /) -> Batch:
        """Return some of the batch."""


B = TypeVar("B", bound=Batch)
FEW = 4  # moves: what is good for fewer says little of more


@dataclass(frozen=True)
class Tried:
    """A trial, the sampler's options for it, and the sign and values of its metrics on the measurements for tuning."""

    trial: dict[str, Any]
    options: dict[str, Any]
    metrics: dict[str, Tensor]
    aims: Mapping[str, int]

    def score(self, aim: str) -> float:
        """Return the median of a metric, less is better; a measurement with a diverged sample is infinitely bad."""
        values = self.aims[aim] * self.metrics[aim].double()
        return float(values.nan_to_num(nan=math.inf).median())


class Search(Generic[B]):
    """Trials of one estimator in one regime, on one flow and the measurements for tuning.

    Parameters
    ----------
    metrics : maps samples and their measurements to {metric: (Y,)}, NaN for a measurement with a diverged sample
    aims : the metrics to tune for: 1 where less is better, -1 where more is
    seed : of the trials
    """

    def __init__(
        self,
        flow: Flow,
        regime: Regime,
        estimator: Choice,
        tuning: B,
        metrics: Callable[[Sample, B], dict[str, Tensor]],
        aims: Mapping[str, int],
        seed: int,
    ) -> None:
        self.flow, self.regime, self.estimator, self.tuning = flow, regime, estimator, tuning
        self.metrics, self.aims, self.seed = metrics, aims, seed
        self.costs: dict[str, list[float]] = {}  # of one and of two steps, by trial: budgets share trials

    def options(self, trial: dict[str, Any], budget: float) -> dict[str, Any] | None:
        """Return the sampler's options of a trial within a budget, or None where it does not pay for one step."""
        key = json.dumps(trial, sort_keys=True)
        if key not in self.costs:
            some = self.tuning.part(slice(0, 2))
            costs = [self.run(self._options(trial, n), some).cost for n in (1, 2)]
            self.costs[key] = [cost.evaluations + cost.vjps for cost in costs]
        count = count_within(budget, *self.costs[key])
        return self._options(trial, count) if count else None

    def _options(self, trial: dict[str, Any], count: int) -> dict[str, Any]:
        return self.regime.call(trial, self.estimator, self.tuning.problem.noise, count)

    def run(self, options: dict[str, Any], batch: Batch) -> Sample:
        """Run the sampler with these options on a batch; one that draws noise draws the same in every run."""
        if self.regime.draws:
            options = options | {"generator": torch.Generator().manual_seed(self.seed)}
        return SAMPLERS[self.regime.sampler](self.flow, batch.loss(), batch.x0, **options)

    def tried(self, some: Sequence[dict[str, Any]], budget: float) -> list[Tried]:
        """Return the trials that fit into the budget, with their options and metrics."""
        made = [(trial, self.options(trial, budget)) for trial in some]
        return [self._tried(trial, options) for trial, options in made if options]

    def counted(self, some: Sequence[dict[str, Any]], count: int) -> list[Tried]:
        """Return trials of ``count`` steps or iterations each, whatever they cost, with their options and metrics."""
        return [self._tried(trial, self._options(trial, count)) for trial in some]

    def _tried(self, trial: dict[str, Any], options: dict[str, Any]) -> Tried:
        return Tried(trial, options, self.metrics(self.run(options, self.tuning), self.tuning), self.aims)

    def wide(self, count: int, budget: float) -> list[Tried]:
        """Try ``count`` trials all over the ranges."""
        return self.tried(trials(self.regime.space, count, self.seed), budget)

    def near(self, known: Sequence[Tried], aim: str, count: int, budget: float) -> list[Tried]:
        """Try ``count`` trials near the best of the known ones."""
        space = around(self.regime.space, self.best(known, aim, 1)[0].trial)
        return self.tried(trials(space, count, self.seed), budget)

    def best(self, known: Sequence[Tried], aim: str, count: int) -> list[Tried]:
        """Return the ``count`` best of the known trials, best first."""
        return sorted(known, key=lambda one: one.score(aim))[:count]

    def at_larger(self, known: Sequence[Tried], count: int, budget: float) -> list[Tried]:
        """Try the ``count`` best trials by each aim, of those with smaller budgets, with a larger one.

        Each is tried in two ways, as either may be the better: going as far as before by shorter moves, and farther by
        moves as long as before.

        Returns
        -------
        list
            The trials; without those of which the budget pays for no more moves than before.
        """
        best = dict[str, dict[str, Any]]()
        for aim in self.aims:
            ranked = dict[str, Tried]()
            for one in self.best(known, aim, len(known)):
                ranked.setdefault(json.dumps(one.trial), one)
            for one in itertools.islice(ranked.values(), count):
                best |= {json.dumps(trial): trial for trial in self._larger(one, budget)}
        return self.tried(list(best.values()), budget)

    def _larger(self, one: Tried, budget: float) -> list[dict[str, Any]]:
        options, counted = self.options(one.trial, budget), self.regime.counted
        if not options or options[counted] == one.options[counted]:
            return []
        return [one.trial, self.regime.longer(one.trial, options[counted] / one.options[counted])]

    def grown(self, known: Sequence[Tried], wide: int, kept: int, budget: float) -> list[Tried]:
        """Try ``at_larger`` the ``kept`` best; as long as no trial had ``FEW`` moves, ``wide`` all over the ranges."""
        few = all(one.options[self.regime.counted] < FEW for one in known)
        return self.wide(wide, budget) if few else self.at_larger(known, kept, budget)


def best_runs(
    search: Search[B], known: Sequence[Tried], budget: float, batch: B
) -> list[tuple[dict[str, Any], Sample | None]]:
    """Run the best of the known trials by each aim on a batch, once where aims choose the same.

    Returns
    -------
    list
        By aim, the columns that say what was chosen, and the samples; without known trials a status, and ``None``.
    """
    places: list[dict[str, Any]] = [{"budget": budget, "aim": aim} for aim in search.aims]
    if not known:
        return [(place | {"status": "not one step fits into the budget"}, None) for place in places]
    runs: dict[tuple[str, int], Sample] = {}
    rows = list[tuple[dict[str, Any], Sample | None]]()
    for place in places:
        (best,) = search.best(known, place["aim"], 1)
        run = (
            json.dumps(best.trial, sort_keys=True),
            best.options[search.regime.counted],
        )  # aims may differ in the count
        if run not in runs:
            runs[run] = search.run(best.options, batch)
        place |= dict(zip(("chosen", "count"), run, strict=True))
        rows.append((place | {"at_end_of_range": search.regime.near_end(best.trial)}, runs[run]))
    return rows
