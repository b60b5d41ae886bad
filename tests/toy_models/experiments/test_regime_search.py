"""The search for options within a budget. The truth is metrics that are set, and trials made again by hand."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from analysis.guidance.regimes import REGIMES, count_within
from analysis.guidance.tuning import trials
from analysis.search import Search, best_runs
from analysis.settings import Options, Variant
from toy_models.experiments import regime_outcomes, regime_searches, regime_tables, regimes
from toy_models.experiments.regime_searches import SEARCHED
from toy_models.mixtures.remembered import RememberedLowRankFlow

GREEDY = next(
    c
    for c in regimes.cells(Options(quick=True))
    if (c.extra_dict["regime"], c.variants[0].estimator, c.extra_dict["noise"]) == ("guidance", "greedy", regimes.NOISE)
)


def searches(metrics=regime_outcomes.metrics):
    """The searches of greedy per step, one for each rule, and the measurements to report."""
    flow, tuning, reported = regime_outcomes.batches(GREEDY)
    made = {
        name: Search(flow, regime, "greedy", tuning, metrics, regime_outcomes.AIMS, 0)
        for name, regime in SEARCHED["guidance"].items()
    }
    return made, reported


def over_budgets(metrics=regime_outcomes.metrics, **sizes):
    made, reported = searches(metrics)
    return pd.DataFrame(list(regime_searches.over_budgets(made, reported, sizes)))


def test_the_aim_chooses_the_best_of_the_trials_on_other_measurements():
    rows = over_budgets(budgets=(48,), trials=2, nearer=1, kept=1)
    made = searches()[0]
    wide = [one for search in made.values() for one in search.tried(trials(search.regime.space, 2, 0), 48)]
    assert len(wide) == 6
    for aim in regime_outcomes.AIMS:
        chosen = json.loads(rows.loc[rows["aim"] == aim, "chosen"].iloc[0])
        (again,) = made[chosen["rule"]].tried([chosen], 48)
        assert again.score(aim) <= min(one.score(aim) for one in wide)
    assert GREEDY.extra_dict["noise"] == made["dps"].tuning.problem.noise


def test_a_budget_below_one_step_is_a_row_that_says_so():
    rows = over_budgets(budgets=(2,), trials=2, nearer=1, kept=1)
    assert rows["status"].tolist() == ["not one step fits into the budget"] * 2


def test_a_budget_is_a_limit_below_which_the_best_may_stay():
    """Where less work is better by the metric, what a smaller budget found is run at every larger one."""

    def work(sample, batch):
        return {name: torch.full((len(batch.clean),), sample.cost.evaluations) for name in regime_outcomes.AIMS}

    rows = over_budgets(work, budgets=(12, 48), trials=2, nearer=1, kept=1)
    assert set(rows["budget"]) == {12, 48}
    assert set(rows["count"]) == {4}


class Recorded:
    """A search whose trials fit as well as they are numbered, and that says what was asked of it."""

    def __init__(self, offset):
        self.offset, self.asked = offset, []

    def grown(self, known, wide, kept, budget):
        self.asked.append((wide, kept, budget, len(known)))
        return [self.offset]

    def near(self, known, aim, count, budget):
        return []


def test_each_optimiser_is_searched_and_half_as_many_are_kept_at_each_larger_budget(monkeypatch):
    seen = []
    monkeypatch.setattr(regime_searches, "at_budget", lambda one, known, budget, _: seen.append((budget, known)) or [])
    made = {name: Recorded(name) for name in "ab"}
    sizes = {"budgets": (48, 96, 192, 384), "trials": 24, "kept": 4, "nearer": 1}
    assert list(regime_searches.over_budgets(made, None, sizes)) == []
    assert made["b"].asked == [(24, 4, 48, 0), (24, 4, 96, 1), (24, 2, 192, 2), (24, 1, 384, 3)]
    assert seen[1] == (96, ["a", "a", "b", "b"])


@pytest.mark.parametrize("regime", [*SEARCHED])
def test_every_optimiser_or_rule_of_a_regime_has_a_search_of_its_own(regime):
    known = REGIMES[regime.partition("_")[0]]
    for name, one in SEARCHED[regime].items():
        (option,) = (key for key, values in one.space.items() if values == (name,))
        assert one.sampler == known.sampler
        assert {*one.space, *one.options} >= {*known.space}
        assert option in ("rule", "optimiser")
    if regime in ("guidance", "steps"):
        assert [*SEARCHED[regime]] == [*known.space[option]]


def test_the_time_from_which_a_source_is_optimised_is_a_regime_and_no_option():
    for regime, t in (("source", 0.0), ("source_late", 0.6), ("source_own", 0.6)):
        for one in SEARCHED[regime].values():
            assert "t" not in one.space
            assert one.call({"learning_rate": 1.0}, "greedy", 0.1, 4)["t"] == t


def test_a_choice_is_at_an_end_by_the_range_of_its_own_optimiser():
    made = {name: SimpleNamespace(regime=regime) for name, regime in SEARCHED["controls"].items()}
    for name, expected in (("sgd", True), ("adam", False)):
        row = {"chosen": json.dumps({"optimiser": name, "learning_rate": 0.99, "weight": 0.0})}
        assert regime_searches._at_own_end(row | {"at_end_of_range": None}, made)["at_end_of_range"] is expected
    assert regime_searches._at_own_end({"status": "none"}, made) == {"status": "none"}


@pytest.mark.parametrize("regime", ["controls", "source", "source_late", "source_own"])
def test_with_a_line_search_alone_a_rate_does_not_depend_on_the_number_of_moves(regime):
    for name, one in SEARCHED[regime].items():
        trial = {"learning_rate": 2.0, "optimiser": name, "prior": 0.0, "t": 0.0, "weight": 0.0}
        assert one.call(trial, "greedy", 0.1, 64)["learning_rate"] == (2.0 if "line" in name else 0.5)


@pytest.mark.parametrize(("name", "kind"), [("greedy", "Search"), ("adaptive", "FittedSearch")])
def test_the_mixture_of_mnist_remembers_times_in_the_dtype_of_the_cell_for_all_searches(name, kind, monkeypatch):
    used = []
    for one in ("Search", "FittedSearch"):
        monkeypatch.setattr(regime_searches, one, lambda *given, one=one: used.append((one, *given)))
    monkeypatch.setattr(regime_searches, "over_budgets", lambda *_: [{}])
    (cell,) = regime_tables.mnist_cells(Options(), "controls")[:1]
    regime_searches.measure(replace(cell, variants=(Variant.of(name),)))
    assert {one for one, *_ in used} == {kind}
    assert len({id(flow) for _, flow, *_ in used}) == 1
    assert isinstance(used[0][1], RememberedLowRankFlow)
    assert used[0][4].x0.dtype == used[0][1].dtype == torch.float32


@pytest.mark.parametrize(
    ("regime", "trial", "option", "factor"),
    [
        ("guidance", {"rule": "normalised", "scale": 2.0}, "scale", 16 / 32),
        ("guidance", {"rule": "dps", "scale": 2.0}, "scale", 0.1 * 16 / 32),
        ("guidance", {"rule": "likelihood", "scale": 2.0}, "scale", 1.0),
        ("source", {"optimiser": "adam", "learning_rate": 2.0}, "learning_rate", 16 / 32),
        ("source", {"optimiser": "lbfgs", "learning_rate": 2.0}, "learning_rate", 1.0),
        ("steps", {"learning_rate": 2.0}, "learning_rate", 16 / 32),
        ("controls", {"learning_rate": 2.0}, "learning_rate", 16 / 32),
    ],
)
def test_a_trial_goes_as_far_in_any_number_of_moves(regime, trial, option, factor):
    options = REGIMES[regime].call(trial, "greedy", 0.1, 32)
    assert options[option] == pytest.approx(2.0 * factor)
    assert options[REGIMES[regime].counted] == 32
    assert trial[option] == 2.0


def test_a_trial_is_tried_with_a_larger_budget_as_far_and_in_moves_as_long():
    flow, tuning, _ = regime_outcomes.batches(GREEDY)
    search = Search(flow, REGIMES["guidance"], "greedy", tuning, regime_outcomes.metrics, regime_outcomes.AIMS, 0)
    (small,) = search.tried([{"rule": "dps", "scale": 0.4}], 12)
    as_far, as_long = search.at_larger([small], 1, 48)
    assert (small.options["steps"], as_far.options["steps"], as_long.options["steps"]) == (4, 16, 16)
    assert as_far.options["scale"] == pytest.approx(small.options["scale"] / 4)
    assert as_long.options["scale"] == pytest.approx(small.options["scale"])
    assert search.at_larger([small, as_far, as_long], 3, 48) == []


@pytest.mark.parametrize(
    ("regime", "trial", "length"),
    [
        ("guidance", {"rule": "dps", "scale": 20.0}, 30.0),
        ("guidance", {"rule": "dps", "scale": 0.5}, 1.5),
        ("guidance", {"rule": "likelihood", "scale": 0.5}, 0.5),
        ("source", {"optimiser": "lbfgs", "learning_rate": 0.5}, 0.5),
    ],
)
def test_a_trial_that_goes_farther_stays_in_its_range_and_one_without_a_length_is_what_it_was(regime, trial, length):
    longer = REGIMES[regime].longer(trial, 3.0)
    assert longer[REGIMES[regime].length] == length
    assert longer.keys() == trial.keys()


def test_aims_that_choose_one_trial_with_different_counts_have_a_run_each():
    """One metric is best for few steps, the other for many."""
    flow, tuning, reported = regime_outcomes.batches(GREEDY)

    def work(sample, batch):
        count = torch.full((len(batch.clean),), sample.cost.evaluations)
        return {"misfit": count, "energy_distance": -count}

    search = Search(flow, REGIMES["guidance"], "greedy", tuning, work, regime_outcomes.AIMS, 0)
    trial = {"rule": "dps", "scale": 0.4}
    runs = best_runs(search, [*search.tried([trial], 12), *search.tried([trial], 48)], 48, reported)
    assert [(row["aim"], row["count"]) for row, _ in runs] == [("misfit", 4), ("energy_distance", 16)]
    assert runs[1][1].cost.evaluations > 2 * runs[0][1].cost.evaluations


def test_trials_are_all_over_the_ranges_until_a_run_has_a_few_moves():
    flow, tuning, _ = regime_outcomes.batches(GREEDY)
    search = Search(flow, REGIMES["guidance"], "greedy", tuning, regime_outcomes.metrics, regime_outcomes.AIMS, 0)
    first = search.grown([], 3, 1, 6)
    assert [one.options["steps"] for one in first] == [2] * 3
    second = search.grown(first, 3, 1, 12)
    assert [one.trial for one in second] == [one.trial for one in first]
    assert [one.options["steps"] for one in second] == [4] * 3
    assert len(search.grown([*first, *second], 3, 1, 24)) <= 4


@pytest.mark.parametrize(("budget", "count"), [(9, 0), (10, 1), (15.9, 1), (16, 2), (22, 3)])
def test_a_budget_buys_whole_steps(budget, count):
    assert count_within(budget, 10, 16) == count


def test_two_steps_that_cost_no_more_than_one_are_refused():
    with pytest.raises(ValueError, match="two must cost more than one, got 4 and 4"):
        count_within(10, 4, 4)
