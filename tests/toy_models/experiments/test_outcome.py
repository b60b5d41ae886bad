"""Exact posteriors of batches of measurements, and the outcome experiment in small.

Posteriors are compared with those of one measurement after the other, which have tests of their own; the metrics with
samples that are exact by construction and with samples of the prior.
"""

import dataclasses

import pandas as pd
import pytest
import torch

from analysis.experiment import measure_cell, split_timings
from analysis.guidance import SAMPLERS, Method
from analysis.guidance.regimes import REGIMES
from analysis.measurements import LEVELS
from analysis.paths import CondOT
from analysis.settings import Options
from figures import coverage as coverage_figure
from figures import outcome_vs_compute
from figures import posterior_gallery as gallery_figure
from tests.support.problems import f64, random_mixture
from toy_models import MixtureFlow
from toy_models.experiments import outcome, outcome_windows, posterior_gallery
from toy_models.problems.zoo import build

A = f64([[1.0, 0.5, 0.0], [0.0, -0.3, 1.0]])
FLOW = MixtureFlow(random_mixture(3, 3), CondOT())


@pytest.fixture(scope="module")
def table():
    return pd.concat([measure_cell(cell) for cell in outcome.cells(Options(quick=True))], ignore_index=True)


@pytest.fixture(scope="module")
def tables(table):
    parts = split_timings(table)
    assert "seconds" not in parts[""]
    assert set(parts["_timings"]["estimator"]) == set(outcome.QUICK)
    found = outcome.derive(parts[""])
    windows = measure_cell(outcome_windows.cells(Options(quick=True))[0])
    named = {"outcome": parts[""], "outcome_windows": windows, "outcome_timings": parts["_timings"]}
    named["outcome_windows_facts"] = outcome_windows.derive(windows)["facts"]
    return named | {f"outcome_{name}": table for name, table in found.items()}


def test_rows_are_per_measurement_with_costs_and_what_was_chosen(table):
    assert len(table) == len(outcome.QUICK) * 8 * (len(outcome.METRICS) + len(LEVELS))
    greedy = table[table["estimator"] == "likelihood:greedy"].iloc[0]
    assert (greedy["evaluations"], greedy["vjps"], greedy["failed_samples"]) == (2 * outcome.STEPS, outcome.STEPS, 0)
    assert greedy["bytes"] > 0
    assert '"scale"' in greedy["options"]


def test_the_oracle_beats_greedy_which_beats_no_guidance_also_in_pairs(tables):
    means = tables["outcome_summary"].query("metric == 'energy_distance'").set_index("estimator")["mean"]
    assert means["oracle_ode"] < means["likelihood:greedy"] < means["unguided"]
    paired = tables["outcome_paired"].query("metric == 'energy_distance'").set_index("estimator")
    assert paired.loc["likelihood:greedy", ["mean", "low", "high"]].tolist() == [0, 0, 0]
    assert paired.loc["oracle_ode", "high"] < 0 < paired.loc["unguided", "low"]


def test_cells_repeat_and_depend_on_their_seed(table):
    cell = outcome.cells(Options(quick=True))[0]
    again = measure_cell(cell)
    pd.testing.assert_frame_equal(again["value"].to_frame(), table.iloc[: len(again)]["value"].to_frame())
    other = measure_cell(dataclasses.replace(cell, seed=1))
    assert not (again["value"] == other["value"]).all()


def test_every_method_names_a_sampler_and_has_the_same_number_of_candidates():
    methods = {name: method for name, method in outcome.METHODS.items() if name != "exact"}
    assert {m.sampler for m in [*methods.values(), *REGIMES.values()]} == set(SAMPLERS)
    assert {len(m.candidates) for m in methods.values() if m.tuned} == {6}
    assert set(outcome.SWEPT) | set(outcome.QUICK) <= set(outcome.METHODS)


def test_a_method_that_cannot_run_fails_on_every_measurement(monkeypatch):
    monkeypatch.setitem(outcome.METHODS, "unguided", Method("posterior_guidance", "unguided", {"steps": 0, "scale": 0}))
    cells = {c.variants[0].estimator: c for c in outcome.cells(Options(quick=True))}
    lost, greedy = (measure_cell(cells[name]) for name in ("unguided", "likelihood:greedy"))
    assert lost["value"].isna().all()
    assert "steps" in lost["status"].iloc[0]
    found = outcome.derive(pd.concat([lost, greedy]))
    summary, printed = found["summary"], found["paper"].set_index(["metric", "estimator"])[outcome.OPERATORS[0]]
    assert "32 diverged" in printed["energy_distance", "unguided"]
    assert "[" in printed["energy_distance", "likelihood:greedy"]
    assert (summary[summary["estimator"] == "unguided"]["failed"] == 8).all()


def test_windows_leave_the_exact_score_alone_elsewhere(tables):
    means = tables["outcome_windows"].query("metric == 'energy_distance'").set_index(["kind", "start"])["mean"]
    exact = tables["outcome_summary"].query("metric == 'energy_distance' and estimator == 'oracle_ode'")["mean"].item()
    assert means["without"].max() > exact + 0.1
    assert means["only"].min() < means["only"].max()
    flow = build("digits", CondOT())
    cell = outcome_windows.cells(Options(quick=True))[0]
    reported = outcome.tuning_and_reported(dataclasses.replace(cell, samples=3), flow)[1]
    score = reported.score(flow.path)
    whole = SAMPLERS["oracle_ode"](flow, reported.loss(), reported.x0, score=score, steps=outcome.STEPS)
    assert torch.equal(outcome_windows.samples(flow, reported, "only", (0.0, 1.0)).x, whole.x)
    assert torch.equal(outcome_windows.samples(flow, reported, "without", (1.0, 2.0)).x, whole.x)


def test_the_gallery_holds_real_images_their_measurements_and_fits():
    table = measure_cell(posterior_gallery.cells(Options(quick=True))[0])
    assert len(table) == 784 * (3 + 3 * 2)  # image, measurement and mean; two exact, unguided and guided samples each
    fits = table.groupby("image")["misfit"].mean()
    assert fits["image"] == pytest.approx(1, abs=0.6)
    assert fits["unguided"] > 2 * fits["exact"]
    assert fits["unguided"] > 2 * fits["likelihood:greedy"]
    tables = {"posterior_gallery": table, "posterior_gallery_facts": posterior_gallery.derive(table)["facts"]}
    assert "misfit χ²/m of exact samples is" in gallery_figure.answer(tables)
    gallery_figure.draw(tables)


@pytest.mark.parametrize("figure", [outcome_vs_compute, coverage_figure])
def test_the_figures_draw_and_say_numbers(figure, tables):
    answer = figure.answer(tables)
    assert any(letter.isdigit() for letter in answer)
    assert "nan" not in answer
    figure.draw(tables)
