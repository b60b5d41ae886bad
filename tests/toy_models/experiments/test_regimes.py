"""The regimes in small: the truth is samplers called by hand, and a table of outcomes written by hand."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from analysis.experiment import measure_cell
from analysis.guidance import SAMPLERS
from analysis.guidance.regimes import gradient_in
from analysis.guidance.registry import Sample
from analysis.settings import Options
from toy_models.experiments import regime_outcomes, regime_searches, regimes

QUICK = {
    (c.extra_dict["regime"], c.variants[0].estimator): c
    for c in regimes.cells(Options(quick=True))
    if c.extra_dict["noise"] == regimes.NOISE
}


@pytest.fixture(scope="module")
def table():
    return pd.concat([measure_cell(cell) for cell in QUICK.values()], ignore_index=True)


def test_a_row_is_what_the_sampler_gives_with_the_options_that_were_chosen(table):
    key = {"regime": "source", "estimator": "midpoint", "budget": 96, "aim": "misfit", "metric": "misfit"}
    rows = table.loc[(table[list(key)] == pd.Series(key)).all(axis=1)]
    cell, trial = QUICK["source", "midpoint"], json.loads(rows["chosen"].iloc[0])
    flow, _, reported = regime_outcomes.batches(cell)
    count = int(rows["count"].iloc[0])
    options = regime_searches.SOURCE.call(trial, regimes.ESTIMATORS["midpoint"], cell.extra_dict["noise"], count)
    assert options["iterations"] == count
    sample = SAMPLERS["optimise_source"](flow, reported.loss(), reported.x0, **options)
    assert rows["value"].tolist() == reported.misfit(reported.sets(sample.x)).tolist()
    assert (rows["evaluations"] + rows["vjps"]).max() <= 96
    more = SAMPLERS["optimise_source"](
        flow, reported.loss(), reported.x0, **options | {"iterations": options["iterations"] + 1}
    )
    assert more.cost.evaluations + more.cost.vjps > 96


def test_a_diverged_sample_has_no_part_in_a_median():
    cell = QUICK["guidance", "greedy"]
    _, reported = regime_outcomes.batches(cell)[1:]
    x, failed = reported.exact.independent.flatten(0, 1).clone(), torch.full((len(reported.x0),), -1)
    x[3], failed[3] = 1e5, 7  # the second sample of the second measurement
    sample = Sample(x, x.sum(1), None, failed)
    values = regime_outcomes.metrics(sample, reported)
    assert all(torch.isnan(v).tolist() == [False, True, False, False] for v in values.values())


def test_psnr_is_that_of_pixels_in_minus_one_to_one():
    cell = QUICK["guidance", "greedy"]
    _, reported = regime_outcomes.batches(cell)[1:]
    x = reported.clean.repeat_interleave(reported.members, 0) + 0.02
    sample = Sample(x, x.sum(1), None, torch.full((len(x),), -1))
    assert regime_outcomes.metrics(sample, reported)["psnr"].tolist() == pytest.approx([40.0] * 4)


def by_hand(**low_and_high):
    """A table of one budget: each estimator's misfits on some operators, in source optimisation."""
    rows = []
    for name, values in low_and_high.items():
        for operator, value in zip("abcd", values, strict=False):
            place = {
                "problem": "digits",
                "noise": 0.1,
                "seed": 0,
                "operator": operator,
                "regime": "source",
                "estimator": name,
                "aim": "misfit",
            }
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


def test_end_to_end_controls_have_the_exact_adjoint_and_other_gradients_their_estimators():
    estimators = regime_outcomes.ESTIMATORS
    assert gradient_in("controls", "end_to_end", estimators) == "adjoint"
    assert gradient_in("source", "end_to_end", estimators) == estimators["end_to_end"]
    assert gradient_in("controls", "greedy", estimators) == estimators["greedy"]


def test_a_source_s_own_endpoint_meets_its_target_and_is_the_estimator_s():
    cell = regimes.searched_cell(
        Options(), "box_inpainting", "source_own", "greedy", samples=3, held_out=3, budgets=(96,)
    )
    own, solved = (
        measure_cell(dataclasses.replace(cell, extra=tuple((cell.extra_dict | {"regime": regime}).items())))
        for regime in ("source_own", "source_late")
    )
    misfits = [t.loc[(t["aim"] == "misfit") & (t["metric"] == "misfit"), "value"].median() for t in (own, solved)]
    assert misfits[0] < misfits[1] / 3


def test_mixtures_of_mnist_are_measured_by_the_same_code():
    sizes = {"samples": 2, "members": 2, "exact": 4, "held_out": 2, "trials": 1, "nearer": 1, "kept": 1}
    cell = regimes.searched_cell(
        Options(), "super_resolution_2", "guidance", "greedy", problem="mnist", budgets=(12,), **sizes
    )
    table = measure_cell(cell)
    assert set(table["problem"]) == {"mnist"}
    assert np.isfinite(table["value"]).all()


def test_adaptive_lookahead_is_tried_by_what_its_runs_cost():
    sizes = {"samples": 2, "members": 2, "exact": 4, "held_out": 2, "trials": 2, "nearer": 1, "kept": 1}
    made = regimes.searched_cell(Options(), "super_resolution_2", "guidance", "adaptive", budgets=(96, 192), **sizes)
    table = measure_cell(made)
    assert set(table["budget"]) == {96, 192}
    assert (table["evaluations"] + table["vjps"] <= 1.25 * table["budget"]).all()
    assert np.isfinite(table["value"]).all()


def test_the_main_part_is_one_data_set_and_noise_in_all_uses():
    cells = regimes.cells(Options())
    table = pd.DataFrame([{"problem": c.problem, **c.extra_dict} for c in cells])
    main = regimes.main_part(table)
    each = len(regimes.OPERATORS) * len(regime_outcomes.ESTIMATORS)
    assert main.groupby("regime").size().to_dict() == {name: each * (1 + (name == "source")) for name in regimes.USES}
    assert set(table["noise"]) == {regimes.NOISE, *regimes.OTHER_NOISES}
    assert len({c.key() for c in cells}) == len(cells)


def test_facts_from_elsewhere_are_ratios_at_the_largest_budget_of_a_place():
    table = by_hand(greedy=(1.0, 10.0), end_to_end=(0.5, 20.0))
    later = by_hand(greedy=(1.0, 10.0), end_to_end=(2.0, 20.0)).assign(budget=96)
    own = by_hand(greedy=(3.0, 5.0), end_to_end=(1.0, 2.0)).assign(regime="source_own")
    places = pd.concat([table, table.assign(noise=0.3), later.assign(noise=0.3), own])
    found = regimes.derive(places)["elsewhere_facts"].iloc[0]
    ends = [found[f"noise_0_3_source_misfit{end}"] for end in ("", "_low", "_high")]
    assert ends == pytest.approx([2.0, 2.0, 2.0])
    more = pd.concat([places, by_hand(greedy=(3.0, 5.0, 8.0), end_to_end=(1.0, 2.0, 3.0)).assign(regime="guidance")])
    pd.testing.assert_series_equal(regimes.derive(more)["elsewhere_facts"].iloc[0], found)  # with operators of its own
    assert [found[f"source_own_misfit_{end}"] for end in ("low", "high")] == [1.5, 4.0]
    late = by_hand(greedy=(1.0, 2.0, 3.0), end_to_end=(3.0, 6.0, 9.0)).assign(regime="source_late")
    made = regimes.derive(pd.concat([places, late, late.assign(noise=0.3)]))
    assert made["elsewhere_facts"]["noise_0_3_source_late_misfit"].item() == pytest.approx(3.0)
    assert made["facts"]["source_late_misfit_order"].item() == "greedy"
    assert regimes.derive(table)["elsewhere_facts"].iloc[0].to_dict() == {"places": 0}


def test_facts_state_how_often_the_largest_of_a_list_was_chosen_and_what_the_budget_pays_for():
    table = by_hand(greedy=(1.0, 10.0), end_to_end=(0.5, 20.0)).assign(regime="controls")
    dear = table["estimator"] == "end_to_end"
    dear_one, cheap_one = ({"weight": 10.0, "optimiser": "adam"}, {"weight": 0.1, "optimiser": "sgd"})
    trials = np.where(dear, json.dumps(dear_one), json.dumps(cheap_one))
    table = table.assign(chosen=trials, count=np.where(dear, 7, 30))
    found = regimes.derive(table)["facts"].iloc[0]
    assert found["controls_weight_largest"] == 0
    dearest = json.dumps(dear_one | {"weight": 100.0})
    at_end = regimes.derive(table.assign(chosen=np.where(dear, dearest, trials)))["facts"].iloc[0]
    assert (at_end["controls_weight_largest"], at_end["at_end_of_list"]) == (0.5, 0.5)
    assert (found["controls_end_to_end_moves"], found["controls_greedy_moves"]) == (7, 30)
    assert (found["controls_greedy_sgd"], found["controls_end_to_end_sgd"], found["controls_end_to_end_adam"]) == (
        1,
        0,
        1,
    )
    assert (found["controls_at_end"], found["at_end_of_range"]) == (0.5, 0.5)
