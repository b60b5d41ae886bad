"""The search for options within a budget. The truth is metrics that are set, and trials made again by hand."""

import json

import pandas as pd
import pytest
import torch

from analysis.guidance.regimes import REGIMES, count_within
from analysis.guidance.tuning import trials
from analysis.search import Search, best_runs
from analysis.settings import Options
from toy_models.experiments import regime_outcomes, regimes

GREEDY = next(
    c
    for c in regimes.cells(Options(quick=True))
    if (c.extra_dict["regime"], c.variants[0].estimator, c.extra_dict["noise"]) == ("guidance", "greedy", regimes.NOISE)
)


def test_the_aim_chooses_the_best_of_the_trials_on_other_measurements():
    cell = GREEDY
    extra = cell.extra_dict
    flow, tuning, reported = regime_outcomes.batches(cell)
    search = Search(flow, REGIMES["guidance"], "greedy", tuning, regime_outcomes.metrics, regime_outcomes.AIMS, 0)
    sizes = {"budgets": (48,), "trials": 6, "nearer": 2, "kept": 1}
    rows = pd.DataFrame(list(regime_outcomes.over_budgets(search, reported, sizes)))
    wide = search.tried(trials(REGIMES["guidance"].space, 6, 0), 48)
    for aim in regime_outcomes.AIMS:
        chosen = json.loads(rows.loc[rows["aim"] == aim, "chosen"].iloc[0])
        (again,) = search.tried([chosen], 48)
        assert again.score(aim) <= min(one.score(aim) for one in wide)
    assert extra["noise"] == tuning.problem.noise


def test_a_budget_below_one_step_is_a_row_that_says_so():
    cell = GREEDY
    flow, tuning, reported = regime_outcomes.batches(cell)
    search = Search(flow, REGIMES["guidance"], "greedy", tuning, regime_outcomes.metrics, regime_outcomes.AIMS, 0)
    sizes = {"budgets": (2,), "trials": 2, "nearer": 1, "kept": 1}
    rows = list(regime_outcomes.over_budgets(search, reported, sizes))
    assert [row["status"] for row in rows] == ["not one step fits into the budget"] * 2


def test_a_budget_is_a_limit_below_which_the_best_may_stay():
    """Where less work is better by the metric, what a smaller budget found is run at every larger one."""
    flow, tuning, reported = regime_outcomes.batches(GREEDY)

    def work(sample, batch):
        return {name: torch.full((len(batch.clean),), sample.cost.evaluations) for name in regime_outcomes.AIMS}

    search = Search(flow, REGIMES["guidance"], "greedy", tuning, work, regime_outcomes.AIMS, 0)
    sizes = {"budgets": (12, 48), "trials": 2, "nearer": 1, "kept": 1}
    rows = pd.DataFrame(list(regime_outcomes.over_budgets(search, reported, sizes)))
    assert set(rows["budget"]) == {12, 48}
    assert set(rows["count"]) == {4}


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
