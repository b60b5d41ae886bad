"""Searches of options by which digits are restored. The truth is the samplers, called by hand with what was chosen."""

import dataclasses
import json

import pytest

from analysis.experiment import measure_cell
from analysis.guidance import SAMPLERS
from analysis.settings import Options
from real_models.experiments import regimes_images as experiment
from real_models.restoration import by_optimiser, measure, methods
from real_models.restoration.digits import restoration_metrics


def small(regime, name, *budgets):
    made = experiment.cell(Options(quick=True), "super_resolution_2", regime, name)
    return dataclasses.replace(made, extra=tuple((made.extra_dict | {"budgets": budgets, "trials": 1}).items()))


@pytest.mark.parametrize(("regime", "budgets"), [("guidance", (40, 80)), ("source", (80, 160))])
def test_adaptive_lookahead_keeps_to_the_budget(regime, budgets):
    rows = measure_cell(small(regime, "adaptive", *budgets))
    assert set(rows["budget"]) == {*budgets}
    assert rows["value"].notna().all()
    # The images that are reported are others than those by which the number of steps was found.
    assert (rows["evaluations"] + rows["vjps"] <= 1.25 * rows["budget"]).all()


@pytest.mark.parametrize(
    ("regime", "ranges", "sampler"),
    [
        ("source", by_optimiser.SOURCE, "optimise_source"),
        ("source_late", by_optimiser.SOURCE, "optimise_source"),
        ("controls", by_optimiser.CONTROLS, "optimise_controls"),
    ],
)
def test_each_optimiser_is_searched_at_rates_of_its_own(monkeypatch, regime, ranges, sampler):
    asked = []

    class Recorded(by_optimiser.Search):
        def tried(self, some, budget):
            asked.extend((trial["optimiser"], trial["learning_rate"]) for trial in some)
            return super().tried(some, budget)

    monkeypatch.setattr(by_optimiser, "Search", Recorded)
    cell = small(regime, "greedy", 96)
    rows = measure_cell(cell)
    assert [name for name, _ in asked] == list(ranges)
    assert all(ranges[name].low <= rate <= ranges[name].high for name, rate in asked)
    trial, count = json.loads(rows["chosen"].iloc[0]), int(rows["count"].iloc[0])
    _, reported = measure.batches(cell)
    regimes, estimator = by_optimiser.chosen(regime, "greedy")
    assert estimator == methods.DIAL["greedy"]
    options = regimes[trial["optimiser"]].call(trial, estimator, reported.problem.noise, count)
    sample = SAMPLERS[sampler](measure.flow_of(cell), reported.loss(), reported.x0, **options)
    for metric, values in restoration_metrics(reported, sample.x).items():
        assert rows.loc[rows["metric"] == metric, "value"].tolist()[: len(values)] == pytest.approx(values.tolist())


def test_a_rate_is_at_an_end_by_the_range_of_its_own_optimiser():
    regimes, _ = by_optimiser.chosen("controls", "greedy")
    for name, expected in (("sgd", True), ("adam", False)):
        row = {"chosen": json.dumps({"optimiser": name, "learning_rate": 0.29, "weight": 0.1})}
        assert by_optimiser.at_end(row, regimes)["at_end_of_range"] is expected
    assert by_optimiser.at_end({"status": "none"}, regimes) == {"status": "none"}


def test_source_optimisation_loses_no_image_to_l_bfgs():
    """With a fixed rate the same options lose images of this operator at the second step."""
    made = experiment.cell(Options(), "box_inpainting", "source_late", "two_step_euler")
    _, reported = measure.batches(made)
    regimes, estimator = by_optimiser.chosen("source_late", "two_step_euler")
    regime, lost = regimes["lbfgs_line_search"], {}
    assert regime.unscaled == ("optimiser", ("lbfgs_line_search",))
    for name in ("lbfgs", "lbfgs_line_search"):
        trial = {"learning_rate": 1.2, "optimiser": name, "prior": 1.0}
        options = regime.call(trial, estimator, reported.problem.noise, 6)
        sample = SAMPLERS["optimise_source"](measure.flow_of(made), reported.loss(), reported.x0, **options)
        lost[name] = int(sample.failed.sum())
    assert lost["lbfgs"] > lost["lbfgs_line_search"] == 0
