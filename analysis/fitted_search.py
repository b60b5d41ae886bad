"""A search for estimators whose cost depends on the state, so that a few steps do not tell what many will cost.

Adaptive lookahead takes more evaluations where the ideal gradient is hard, which guidance itself leads to or away from.
Taken from one and two steps, its costs at large budgets were up to 2.8 times the budget, and two steps could cost less
than one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from analysis.guidance.regimes import count_within
from analysis.guidance.tuning import around, trials
from analysis.search import B, Search, Tried


class FittedSearch(Search[B]):
    """A ``Search`` whose trials are run on the measurements for tuning with fewer moves until the budget pays for them.

    What a trial has cost tells how many moves it has within another budget.
    """

    def options(self, trial: dict[str, Any], budget: float) -> dict[str, Any] | None:
        """Return a trial's options with about as many moves as the budget pays for, or None where it is not one."""
        if (key := _key(trial)) not in self.costs:
            some = self.tuning.part(slice(0, 2))
            one, two = (self.run(self._options(trial, n), some).cost for n in (1, 2))
            single = one.evaluations + one.vjps
            self.costs[key] = [single, max(two.evaluations + two.vjps, 1.25 * single)]
        count = count_within(budget, *self.costs[key])
        return self._options(trial, count) if count else None

    def tried(self, some: Sequence[dict[str, Any]], budget: float) -> list[Tried]:
        """Return the trials within the budget, with their options and metrics."""
        return [found for trial in some if (found := self._within(trial, budget))]

    def _within(self, trial: dict[str, Any], budget: float) -> Tried | None:
        options = self.options(trial, budget)
        while options:
            sample, count = self.run(options, self.tuning), int(options[self.regime.counted])
            paid = sample.cost.evaluations + sample.cost.vjps
            self.costs[_key(trial)] = [paid / count, 2 * paid / count]
            if paid <= budget:
                return Tried(trial, options, self.metrics(sample, self.tuning), self.aims)
            count = min(count - 1, math.floor(count * budget / paid))
            options = self._options(trial, count) if count else None
        return None

    def near(self, known: Sequence[Tried], aim: str, count: int, budget: float) -> list[Tried]:
        """Try ``count`` trials near the best of the known ones, which cost about as much as it does."""
        best = self.best(known, aim, 1)[0].trial
        some = trials(around(self.regime.space, best), count, self.seed)
        return self.tried(self._alike(some, best), budget)

    def _larger(self, one: Tried, budget: float) -> list[dict[str, Any]]:
        return self._alike(super()._larger(one, budget), one.trial)

    def _alike(self, some: list[dict[str, Any]], known: dict[str, Any]) -> list[dict[str, Any]]:
        """Return trials of which those that are new are taken to cost what a known one does."""
        for trial in some:
            self.costs.setdefault(_key(trial), self.costs[_key(known)])
        return some


def _key(trial: dict[str, Any]) -> str:
    return json.dumps(trial, sort_keys=True)
