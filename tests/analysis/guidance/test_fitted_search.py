"""Steps fitted to a budget. The truth is a sampler whose costs are set, which grow or fall with the steps."""

import json
from types import SimpleNamespace

import pytest
import torch

from analysis.cost import Cost
from analysis.fitted_search import FittedSearch
from analysis.guidance import registry
from analysis.guidance.regimes import Regime
from analysis.guidance.registry import Sample
from analysis.guidance.tuning import Range


class Batch:
    """Four measurements, of which a part may be taken."""

    problem = SimpleNamespace(noise=1.0)

    def __init__(self, count=4):
        self.x0 = torch.zeros(count, 2)

    def loss(self):
        return lambda x: x.sum(1)

    def part(self, rows):
        return Batch(len(self.x0[rows]))


def search_of(cost, monkeypatch):
    """A search over a sampler of n steps that costs ``cost(n)``, and the list of the steps that it has run."""
    ran = []

    def sampler(flow, loss, x0, *, steps, scale, gradient):
        ran.append((len(x0), steps, scale))
        return Sample(x0, x0.sum(1), Cost(evaluations=cost(steps)), torch.full((len(x0),), -1))

    monkeypatch.setitem(registry.SAMPLERS, "made_up", sampler)
    regime = Regime("made_up", "gradient", "steps", space={"scale": Range(0.01, 1000.0)}, length="scale")
    metrics = lambda sample, batch: {"misfit": torch.zeros(len(batch.x0))}  # noqa: E731
    return FittedSearch(None, regime, "any", Batch(), metrics, {"misfit": 1}, 0), ran


@pytest.mark.parametrize("budget", [9, 10, 40, 200, 1000])
@pytest.mark.parametrize("power", [1, 1.15, 1.3])
def test_a_trial_never_costs_more_than_the_budget_and_wastes_little_of_it(power, budget, monkeypatch):
    search, _ = search_of(lambda n: 5.0 * n**power, monkeypatch)
    known = search.tried([{"scale": 1.0}], 10 if budget > 10 else budget)
    (found,) = search.tried([{"scale": 1.0}], budget)
    n = found.options["steps"]
    assert 5 * n**power <= budget
    assert n > 0.4 * (budget / 5) ** (1 / power)
    assert known[0].options["steps"] <= n


def test_two_steps_may_cost_less_than_one(monkeypatch):
    search, _ = search_of(lambda n: {1: 40.0, 2: 38.0}.get(n, 30.0 * n), monkeypatch)
    (found,) = search.tried([{"scale": 1.0}], 200)
    assert found.options["steps"] == 6


def test_a_budget_below_one_step_has_no_trial(monkeypatch):
    search, _ = search_of(lambda n: 40.0 * n, monkeypatch)
    assert search.tried([{"scale": 1.0}], 39) == []
    search, _ = search_of(lambda n: 10.0 if n < 3 else 400.0, monkeypatch)
    assert [one.options["steps"] for one in search.tried([{"scale": 1.0}], 100)] == [2]


def test_what_a_trial_has_cost_says_how_many_moves_it_and_a_longer_one_have_later(monkeypatch):
    """Costs of few steps say 2 a step, those of many 8: only the first trial needs a run that is thrown away."""
    search, ran = search_of(lambda n: 2.0 * n if n < 3 else 8.0 * n, monkeypatch)
    known = search.tried([{"scale": 1.0}], 80)
    assert [steps for rows, steps, _ in ran if rows == 4] == [40, 10]
    ran.clear()
    as_far, as_long = search.at_larger(known, 1, 320)
    assert [steps for _, steps, _ in ran] == [40, 40]
    assert as_far.options["scale"] == pytest.approx(16 / 40)
    assert as_long.options["scale"] == pytest.approx(16 / 10)
    assert json.loads(json.dumps(as_long.trial)) == {"scale": pytest.approx(4.0)}
