"""Exact posteriors of batches of measurements, and the outcome experiment in small.

Posteriors are compared with those of one measurement after the other, which have tests of their own; the metrics with
samples that are exact by construction and with samples of the prior.
"""

import dataclasses

import pandas as pd
import pytest
import torch

from analysis import sample_distances
from analysis.experiment import measure_cell, split_timings
from analysis.guidance import SAMPLERS, Method
from analysis.measurements import LEVELS
from analysis.operators import InverseProblem, from_matrix
from analysis.paths import CondOT
from analysis.settings import Options
from figures import coverage as coverage_figure
from figures import outcome_vs_compute
from figures import posterior_gallery as gallery_figure
from tests.support.problems import distance, f64, randn, random_mixture
from toy_models import MixtureFlow
from toy_models.experiments import outcome, outcome_windows, posterior_gallery
from toy_models.posteriors.dense import condition, likelihood_score
from toy_models.posteriors.measurements import measured_batch
from toy_models.problems.zoo import build

A = f64([[1.0, 0.5, 0.0], [0.0, -0.3, 1.0]])
FLOW = MixtureFlow(random_mixture(3, 3), CondOT())


def batch(count=4, noise=0.3, members=5):
    generator = torch.Generator().manual_seed(0)
    clean, problem = FLOW.mixture.sample(count, generator), InverseProblem(from_matrix(A), noise)
    return measured_batch(FLOW.mixture, problem, clean, generator, members=members, exact=50)


def posteriors(measured):
    covariance = measured.problem.noise_covariance
    return [condition(FLOW.mixture, A, y, covariance) for y in measured.measurements]


def test_density_and_mean_are_those_of_each_posterior():
    measured, x = batch(), randn(4, 7, 3)
    law = measured.exact.law
    for i, posterior in enumerate(posteriors(measured)):
        torch.testing.assert_close(law.log_prob(x)[i], posterior.log_prob(x[i]))
        torch.testing.assert_close(law.mean[i], posterior.weights @ posterior.means)


def test_exact_samples_have_the_moments_of_each_posterior():
    measured, n = batch(), 40_000
    x = measured.exact.law.sample(n, torch.Generator().manual_seed(1))
    assert x.shape == (4, n, 3)
    for samples, posterior in zip(x, posteriors(measured), strict=True):
        mean = posterior.weights @ posterior.means
        away = posterior.means - mean
        second = posterior.covariances + away[:, :, None] * away[:, None]
        covariance = torch.einsum("k,kij->ij", posterior.weights, second)
        assert ((samples.mean(0) - mean).abs() < 4.5 * (covariance.diagonal() / n).sqrt()).all()
        assert distance(samples.T.cov(), covariance) < 0.05


@pytest.mark.parametrize("n", [None, 5, 2])
def test_loss_and_score_are_those_of_the_measurements_one_by_one(n):
    measured, each = batch(), n or 5
    x, t = randn(4 * each, 3), f64(0.4)
    loss, score = measured.loss(n)(x), measured.score(FLOW.path, n)(x, t)
    for i, y in enumerate(measured.measurements):
        part = slice(i * each, (i + 1) * each)
        torch.testing.assert_close(loss[part], (x[part] @ A.T - y).square().sum(1) / (2 * 0.3**2))
        expected = likelihood_score(FLOW, A, y, measured.problem.noise_covariance, x[part], 0.4)
        torch.testing.assert_close(score[part], expected)


def test_a_part_of_a_batch_has_its_own_images_and_noise_and_no_posteriors():
    measured = batch()
    part = measured.part(slice(1, 3))
    assert torch.equal(part.clean, measured.clean[1:3])
    assert torch.equal(part.measurements, measured.measurements[1:3])
    assert torch.equal(part.x0, measured.x0[5:15])
    assert part.members == measured.members == 5
    with pytest.raises(ValueError, match="the exact posteriors of these measurements are not known"):
        part.metrics(randn(2, 5, 3))


def test_exact_samples_have_the_best_metrics_and_prior_samples_bad_ones():
    measured, generator = batch(200, members=9), torch.Generator().manual_seed(1)
    good = measured.metrics(measured.exact.independent)
    bad = measured.metrics(FLOW.mixture.sample(200 * 9, generator).unflatten(0, (200, 9)))
    assert set(good) == {*outcome.METRICS, *(f"coverage_{level:g}" for level in LEVELS)}
    assert all(v.shape == (200,) for v in good.values())
    assert abs(float(good["energy_distance"].mean())) < 4 * float(good["energy_distance"].std()) / 200**0.5
    assert float(good["misfit"].mean()) == pytest.approx(1, abs=0.2)
    for level in LEVELS:
        assert float(good[f"coverage_{level:g}"].mean()) == pytest.approx(level, abs=0.02)
    for metric in ("sliced_wasserstein", "energy_distance", "mean_error", "misfit"):
        assert bad[metric].mean() > good[metric].mean() + 0.2
    assert bad["log_density"].mean() < good["log_density"].mean() - 1


def test_clean_images_of_the_law_are_covered_as_often_as_intervals_say():
    measured = batch(600, members=9)
    shares = sample_distances.coverage(measured.exact.independent, measured.clean[:, None], LEVELS)
    torch.testing.assert_close(shares.mean(0), f64(LEVELS), atol=0.05, rtol=0)


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
    assert {m.sampler for m in methods.values()} == set(SAMPLERS)
    assert {len(m.candidates) for m in methods.values() if m.tuned} == {6}
    assert set(outcome.SWEPT) | set(outcome.QUICK) <= set(outcome.METHODS)


def test_a_method_that_cannot_run_fails_on_every_measurement(monkeypatch):
    monkeypatch.setitem(outcome.METHODS, "unguided", Method("posterior_guidance", "unguided", {"steps": 0, "scale": 0}))
    cells = {c.settings[0].estimator: c for c in outcome.cells(Options(quick=True))}
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
    assert len(table) == 784 * (3 + 2 + 2)  # image, measurement and mean; two exact and two unguided samples
    fits = table.groupby("image")["misfit"].mean()
    assert fits["image"] == pytest.approx(1, abs=0.6)
    assert fits["unguided"] > 2 * fits["exact"]
    assert "exact sample" in gallery_figure.answer({"posterior_gallery": table})
    gallery_figure.plt.close(gallery_figure.draw({"posterior_gallery": table}))


@pytest.mark.parametrize("figure", [outcome_vs_compute, coverage_figure])
def test_the_figures_draw_and_say_numbers(figure, tables):
    answer = figure.answer(tables)
    assert any(letter.isdigit() for letter in answer)
    assert "nan" not in answer
    figure.plt.close(figure.draw(tables))
