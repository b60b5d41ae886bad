"""The regimes in small: the truth is samplers called by hand, and a table of outcomes written by hand."""

import json

import pandas as pd
import pytest
import torch
from scipy import stats

from analysis.experiment import measure_cell
from analysis.guidance import SAMPLERS
from analysis.guidance.regimes import REGIMES, count_within
from analysis.guidance.registry import Sample
from analysis.guidance.tuning import trials
from analysis.paths import PATHS
from analysis.search import Search
from analysis.settings import Options
from toy_models.experiments import outcome, regimes
from toy_models.problems.zoo import build

QUICK = {(c.extra_dict["regime"], c.variants[0].estimator): c for c in regimes.cells(Options(quick=True))}


@pytest.fixture(scope="module")
def table():
    return pd.concat([measure_cell(cell) for cell in QUICK.values()], ignore_index=True)


def test_a_row_is_what_the_sampler_gives_with_the_options_that_were_chosen(table):
    key = {"regime": "source", "estimator": "midpoint", "budget": 96, "aim": "misfit", "metric": "misfit"}
    rows = table.loc[(table[list(key)] == pd.Series(key)).all(axis=1)]
    cell, trial = QUICK["source", "midpoint"], json.loads(rows["chosen"].iloc[0])
    flow = build(cell.problem, PATHS[cell.path]())
    _, reported = outcome.tuning_and_reported(cell, flow)
    options = REGIMES["source"].call(trial, regimes.ESTIMATORS["midpoint"], cell.extra_dict["noise"])
    options["iterations"] = int(rows["count"].iloc[0])
    sample = SAMPLERS["optimise_source"](flow, reported.loss(), reported.x0, **options)
    assert rows["value"].tolist() == reported.misfit(reported.sets(sample.x)).tolist()
    assert (rows["evaluations"] + rows["vjps"]).max() <= 96
    more = SAMPLERS["optimise_source"](
        flow, reported.loss(), reported.x0, **options | {"iterations": options["iterations"] + 1}
    )
    assert more.cost.evaluations + more.cost.vjps > 96


def test_the_aim_chooses_the_best_of_the_trials_on_other_measurements():
    cell = QUICK["guidance", "greedy"]
    flow, extra = build(cell.problem, PATHS[cell.path]()), cell.extra_dict
    tuning, reported = outcome.tuning_and_reported(cell, flow)
    search = Search(flow, REGIMES["guidance"], "greedy", tuning, regimes.metrics, regimes.AIMS, 0)
    rows = pd.DataFrame(list(regimes.rows_of(search, 48, reported, (6, 2))))
    wide = search.tried(trials(REGIMES["guidance"].space, 6, 0), 48)
    for aim in regimes.AIMS:
        chosen = json.loads(rows.loc[rows["aim"] == aim, "chosen"].iloc[0])
        (again,) = search.tried([chosen], 48)
        assert again.score(aim) <= min(one.score(aim) for one in wide)
    assert extra["noise"] == tuning.problem.noise


def test_a_budget_below_one_step_is_a_row_that_says_so():
    cell = QUICK["guidance", "greedy"]
    flow = build(cell.problem, PATHS[cell.path]())
    tuning, reported = outcome.tuning_and_reported(cell, flow)
    search = Search(flow, REGIMES["guidance"], "greedy", tuning, regimes.metrics, regimes.AIMS, 0)
    rows = list(regimes.rows_of(search, 2, reported, (2, 1)))
    assert [row["status"] for row in rows] == ["not one step fits into the budget"] * 2


def test_a_diverged_sample_has_no_part_in_a_median():
    cell = QUICK["guidance", "greedy"]
    _, reported = outcome.tuning_and_reported(cell, build(cell.problem, PATHS[cell.path]()))
    x, failed = reported.exact.independent.flatten(0, 1).clone(), torch.full((len(reported.x0),), -1)
    x[3], failed[3] = 1e5, 7  # the second sample of the second measurement
    sample = Sample(x, x.sum(1), None, failed)
    values = regimes.metrics(sample, reported)
    assert all(torch.isnan(v).tolist() == [False, True, False, False] for v in values.values())


def test_psnr_is_that_of_pixels_in_minus_one_to_one():
    cell = QUICK["guidance", "greedy"]
    _, reported = outcome.tuning_and_reported(cell, build(cell.problem, PATHS[cell.path]()))
    x = reported.clean.repeat_interleave(reported.members, 0) + 0.02
    sample = Sample(x, x.sum(1), None, torch.full((len(x),), -1))
    assert regimes.metrics(sample, reported)["psnr"].tolist() == pytest.approx([40.0] * 4)


@pytest.mark.parametrize(("budget", "count"), [(9, 0), (10, 1), (15.9, 1), (16, 2), (22, 3)])
def test_a_budget_buys_whole_steps(budget, count):
    assert count_within(budget, 10, 16) == count


def test_two_steps_that_cost_no_more_than_one_are_refused():
    with pytest.raises(ValueError, match="two must cost more than one, got 4 and 4"):
        count_within(10, 4, 4)


def by_hand(**low_and_high):
    """A table of one budget: each estimator's misfits on some operators, in source optimisation."""
    rows = []
    for name, values in low_and_high.items():
        for operator, value in zip("abcd", values, strict=False):
            place = {"problem": "digits", "operator": operator, "regime": "source", "estimator": name, "aim": "misfit"}
            place |= {
                "budget": 48,
                "metric": "misfit",
                "status": "ok",
                "chosen": "{}",
                "count": 1,
                "at_end_of_range": name == "greedy",
            }
            rows += [place | {"value": v, "measurement": i} for i, v in enumerate((value, value, float("nan")))]
    return pd.DataFrame(rows)


def test_the_summary_is_a_mean_of_medians_with_the_share_that_failed():
    summary = regimes.summarise(by_hand(greedy=(2.0, 4.0)))
    half = stats.t.ppf(0.975, 1)  # two values whose standard error is 1
    assert summary[["mean", "low", "high"]].iloc[0].tolist() == pytest.approx([3.0, 3 - half, 3 + half])
    assert summary[["operators", "failed"]].iloc[0].tolist() == pytest.approx([2, 1 / 3])


def test_ratios_to_greedy_are_paired_by_operator():
    summary = regimes.summarise(by_hand(greedy=(1.0, 10.0, 100.0), end_to_end=(2.0, 20.0, 200.1))).set_index(
        "estimator"
    )
    found = summary[["over_greedy_mean", "over_greedy_low", "over_greedy_high"]]
    assert found.loc["greedy"].tolist() == [1, 1, 1]
    assert found.loc["end_to_end"].tolist() == pytest.approx([2.0, 2.0, 2.0], rel=2e-3)
    assert regimes.summarise(by_hand(end_to_end=(2.0, 20.0)))["over_greedy_mean"].isna().all()


@pytest.mark.parametrize(
    ("greedy", "end", "order"),
    [
        ((5.0, 6.0, 7.0), (1.0, 1.3, 1.5), "end"),
        ((1.0, 2.0, 1.5), (5.0, 9.0, 7.0), "greedy"),
        ((1.0, 4.0, 2.0), (2.0, 6.0, 1.0), None),
        ((5.0, 6.0), (1.0, 2.0), None),  # two operators are too few
    ],
)
def test_an_order_is_stated_only_where_the_ratio_s_interval_excludes_one(greedy, end, order):
    found = regimes.derive(by_hand(greedy=greedy, end_to_end=end))["facts"].iloc[0]
    assert found["source_misfit_order"] == order
    assert found["at_end_of_range"] == 0.5
    assert found["source_misfit_greedy"] == pytest.approx(sum(greedy) / len(greedy))
