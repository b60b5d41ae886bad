"""Errors of guidance gradients beside their samples: the measurement, its statistics and its figure, in small.

Scaled errors are compared with a search over scales, gradients with a fine solve, correlations with SciPy's.
"""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.errors import relative_error
from analysis.experiment import measure_cell
from analysis.gradients import end_to_end
from analysis.operators import OPERATORS, InverseProblem, from_matrix
from analysis.paths import CondOT
from analysis.settings import Options
from figures import dial as figure
from tests.support.problems import EPS, f64, randn, random_mixture
from toy_models import MixtureFlow
from toy_models.experiments import dial, outcome
from toy_models.posteriors.dense import likelihood_score
from toy_models.posteriors.measurements import measured_batch
from toy_models.posteriors.replaced_score import Replacement

A = f64([[1.0, 0.5, 0.0], [0.0, -0.3, 1.0]])
NOISE = 0.3


def batch(components, count=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixture, problem = random_mixture(components, 3), InverseProblem(from_matrix(A), NOISE)
    clean = mixture.sample(count, generator)
    return measured_batch(mixture, problem, clean, generator, members=2, exact=5)


def flow_of(components):
    return MixtureFlow(random_mixture(components, 3), CondOT())


def test_the_scaled_error_is_the_least_over_scales_that_are_not_negative():
    g, truth = randn(7, 3), randn(7, 3, seed=1)
    scales = torch.linspace(0, 20, 200_001, dtype=torch.float64)[:, None]
    for a, b, found in zip(g, truth, dial.scaled_error(g, truth), strict=True):
        least = torch.linalg.vector_norm(scales * a - b, dim=1).min() / torch.linalg.vector_norm(b)
        assert float(found) == pytest.approx(float(least), abs=1e-6)
    same = dial.scaled_error(torch.cat([3 * truth, -truth]), truth.repeat(2, 1))
    assert same[:7].max() < 4 * EPS**0.5
    assert torch.equal(same[7:], torch.ones(7, dtype=torch.float64))
    assert dial.scaled_error(g * math.nan, truth).isnan().all()


def test_gradients_are_taken_at_exact_states_measurement_after_measurement():
    reported, flow, times = batch(3), flow_of(3), (0.2, 0.7)
    found = dial.gradients_at(
        flow, reported, {name: dial.VARIANTS[name] for name in ("greedy", "midpoint_4")}, times, 1e-9
    )
    assert set(found) == {"greedy", "midpoint_4", "ideal", "score"}
    noise = reported.x0.unflatten(0, (4, 2))[:, 0]
    for j, t in enumerate(times):
        x = t * reported.exact.independent[:, 0] + (1 - t) * noise
        ideal = end_to_end(flow, reported.loss(1), x, t, steps=32, solver="rk4").gradient
        assert relative_error(found["ideal"][j::2], ideal).max() < 1e-4
        for i, y in enumerate(reported.measurements):
            score = likelihood_score(flow, A, y, reported.problem.noise_covariance, x[i : i + 1], t)
            torch.testing.assert_close(-found["score"][2 * i + j], score[0])


def test_all_estimators_are_compared_with_both_truths():
    found = {"greedy": randn(5, 3), "ideal": 2 * randn(5, 3, seed=1), "score": randn(5, 3, seed=1)}
    values = {(row["estimator"], row["quantity"]): row["value"] for row in dial.errors_of(found)}
    quantities = [f"{truth}_{what}" for truth in dial.TRUTHS for what in ("error", "length")]
    assert set(values) == {(name, quantity) for name in ("greedy", "ideal") for quantity in quantities}
    assert values["ideal", "score_error"].max() < 4 * EPS**0.5
    torch.testing.assert_close(values["ideal", "score_length"], torch.full((5,), 2, dtype=torch.float64))
    assert values["greedy", "score_error"].min() > 0.01


def test_outcomes_are_tuned_and_of_the_score_s_length():
    reported, tuning, flow, scales = batch(1), batch(1, count=3, seed=1), flow_of(1), (0.01, 1.0, 30.0)
    plain = Replacement(dial.VARIANTS["tmpd"], dial.WHOLE, outcome.STEPS)
    outcomes = {row["quantity"]: row for row in dial.outcomes(flow, tuning, reported, plain, scales)}
    assert outcomes["tuned"]["scale"] == 1.0
    assert outcomes["matched"]["scale"] is None
    assert outcomes["tuned"]["value"].shape == (4,)


def rows(quantity, values, operator="a", end=1.0):
    """A table of one quantity from values {name: (Y,)}."""
    place = {"operator": operator, "noise": 0.2, "start": 0.0, "end": end, "failed_samples": 0, "scale": math.nan}
    parts = [
        place | {"estimator": r, "measurement": i, "value": v} for r, vs in values.items() for i, v in enumerate(vs)
    ]
    return pd.DataFrame(parts).assign(quantity=quantity)


def test_estimators_that_err_more_and_sample_worse_correlate_and_failed_measurements_are_left_out():
    lost = {"greedy": [3.0, 3.1, math.nan], "midpoint": [2.0, 2.1, 9.0], "end_to_end": [1.0, 1.1, 2.0]}
    kept = {name: [10 * v[0], 10 * v[1], 5.0] for name, v in lost.items()}
    table = pd.concat([rows("score_error", lost, end=0.5), rows("tuned", kept), rows("tuned", kept, operator="b")])
    table = pd.concat([table, rows("score_error", kept, operator="b", end=0.5), rows("ideal_error", kept, end=0.5)])
    found = dial.derive(table)
    ranks = found["correlation"].query("end == 1 and truth == 'score'").set_index("operator")["value"]
    assert ranks["a"] == ranks["b"] == ranks["all"] == 1
    means = found["summary"].query("end == 1").set_index(["quantity", "operator", "estimator"])
    assert means.loc[("score_error", "a", "greedy"), ["mean", "failed"]].tolist() == [pytest.approx(3.05), 1]
    assert means.loc[("tuned", "all", "midpoint"), "mean"] == pytest.approx(np.mean(kept["midpoint"]))
    assert means.loc[("tuned", "a", "midpoint"), "over_greedy_mean"] == pytest.approx(-20 / 3)


def test_the_full_experiment_has_all_operators_and_the_estimators_that_outcome_reports():
    cells = dial.cells(Options())
    assert sorted(cell.extra_dict["operator"] for cell in cells) == sorted(OPERATORS)
    assert all(set(outcome.DIAL) < set(cell.extra_dict["estimators"]) for cell in cells)
    assert {c.extra_dict["operator"] for c in cells if c.extra_dict["replaced"]} == set(outcome.OPERATORS)
    assert set(figure.ESTIMATORS) == {*outcome.DIAL, *dial.ASIDE}
    json.dumps([cell.extra for cell in cells])


@pytest.fixture(scope="module")
def tables():
    table = pd.concat([measure_cell(cell) for cell in dial.cells(Options(quick=True))], ignore_index=True)
    found = {f"dial_{name}": part for name, part in dial.derive(table).items()}
    return {"dial": table} | found


def test_the_gradients_near_the_ideal_one_are_far_from_the_score(tables):
    means = (
        tables["dial_summary"]
        .query("operator == 'all' and start == 0 and end < 1")
        .set_index(["estimator", "quantity"])
    )
    ideal, score = (means["mean"].xs(f"{truth}_error", level="quantity") for truth in dial.TRUTHS)
    assert ideal["midpoint"] < ideal["greedy"]
    assert score["greedy"] < score["midpoint"]
    assert score["ideal"] > 0.5


def test_the_figure_draws_and_says_numbers(tables):
    answer = figure.answer(tables)
    assert "Greedy is off the score by" in answer
    assert "rank correlation" not in answer  # three estimators are too few for one
    assert "nan" not in answer
    figure.draw(tables)
