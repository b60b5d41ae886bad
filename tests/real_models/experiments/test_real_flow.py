"""The learned flow's experiment and figure, on a small network.

The truths are the orders of theory, which a smooth network must show, and errors recomputed at the same states by the
registered estimators against a finer reference.
"""

import dataclasses

import pandas as pd
import pytest
import torch
from torch import nn

from analysis import losses, reference
from analysis.errors import relative_error
from analysis.experiment import measure_cell
from analysis.flow import PredictionFlow
from analysis.paths import CondOT
from analysis.settings import DTYPES, Options
from analysis.subject import Subject
from figures import real_flow as figure
from real_models.experiments import real_flow
from tests.support.problems import f64

D, TIMES = 6, (0.2, 0.5, 0.9)


class Small(nn.Module):
    """A smooth network of flat states whose time matters."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        shapes = (D + 1, 9), (9, D)
        self.a, self.b = (nn.Parameter(torch.randn(n, m, generator=generator) / n**0.5) for n, m in shapes)

    def forward(self, x, t):
        return torch.tanh(torch.cat([x, t[:, None]], 1) @ self.a) @ self.b


def subject(problem, path, dtype, device):
    """A stand-in for ``real_models.images.subject`` that needs no weights."""
    pair = (Small().to(d).requires_grad_(False) for d in (DTYPES[dtype], torch.float64))
    learned, truth = (PredictionFlow(network, CondOT()) for network in pair)

    def states(t, n, generator):
        parts = torch.randn(2, n, D, dtype=torch.float64, generator=generator)
        return (t[:, None, None] * parts[0] + (1 - t[:, None, None]) * parts[1]).flatten(0, 1)

    def loss(repeats, n, generator):
        target = torch.randn(n, D, dtype=torch.float64, generator=generator)
        return losses.HalfSquaredDistance(target.repeat(repeats, 1))

    return Subject(learned, truth, states, loss)


def small(quick=False, **fields):
    (cell,) = real_flow.cells(Options(quick=quick))
    return dataclasses.replace(cell, factory="tests.real_models.experiments.test_real_flow:subject", **fields)


@pytest.fixture(scope="module")
def table():
    return measure_cell(small())


@pytest.fixture(scope="module")
def tables(table):
    rows = {"problem": "overlapping", "path": "condot", "metric": "relative_error", "solver": "euler"}
    analytic = {"greedy_error": "zeta", "convergence": "steps"}
    found = {n: pd.DataFrame([rows | {column: i, "value": 0.1 / i} for i in (1, 2)]) for n, column in analytic.items()}
    found["real_claims_facts"] = pd.DataFrame([{"claims": 2, "claims_hold": 1}])
    return found | with_derived(table)


def with_derived(table):
    return {"real_flow": table} | {f"real_flow_{name}": part for name, part in real_flow.derive(table).items()}


def test_the_best_horizon_has_the_least_error_of_its_step_count(tables):
    ahead = tables["real_flow_ahead"]
    assert {0.0, 1.0} <= set(ahead["fraction"])
    for _, rows in ahead.groupby(["solver", "steps"]):
        assert rows[rows["best"]]["value"].tolist() == [rows["value"].min()]
    facts = tables["real_flow_facts"].iloc[0]
    assert facts["short"] == (ahead[ahead["best"]]["fraction"] < 1).sum()


def test_rows_say_which_truth_they_are_held_to_and_how_good_it_is(table):
    assert set(table["truth"]) == {"converged"}
    assert set(table["truth_dtype"]) == {"float64"}
    assert set(table[table["estimator"] == "greedy"]["dtype"]) == {"float64"}
    assert set(table[table["estimator"] != "greedy"]["dtype"]) == {"float32"}
    assert table["reference_bound"].between(0, 1e-5, inclusive="neither").all()
    assert (table["status"] == "ok").all()
    assert (table["failed"] == 0).all()


def test_slopes_on_a_smooth_network_are_those_of_theory(tables):
    fits = tables["real_flow_fits"].set_index("name").drop("rk4")  # whose errors here are soon those of float32
    assert (fits["status"] == "ok").all()
    assert fits.loc["greedy", "slope"] == pytest.approx(2, abs=0.2)
    assert fits.loc["euler", "slope"] == pytest.approx(1, abs=0.2)
    assert fits.loc["midpoint", "slope"] == pytest.approx(2, abs=0.3)


def test_the_leading_term_explains_greedys_error_late_and_not_early(table):
    left = table[table["metric"] == "leading_term_error"].set_index("zeta")["value"]
    assert left[left.index < 0.1].max() < 0.1 < left[left.index > 3].max()


def test_greedy_is_the_estimator_of_the_registry_at_the_same_states(table):
    cell = small()
    at, batch = real_flow.sample_states(cell)[2]
    flow = PredictionFlow(Small().double(), CondOT())
    exact = reference.ideal_gradient(flow, batch.loss, batch.x, at.times[0]).gradient
    x = batch.x.detach().requires_grad_()
    endpoint = x + (1 - at.times[0]) * flow.velocity(x, at.times[0])
    (greedy,) = torch.autograd.grad(batch.loss(endpoint).sum(), x)
    row = table[(table["t"] == at.times[0]) & (table["metric"] == "relative_error")].iloc[0]
    assert row["value"] == pytest.approx(float(relative_error(greedy, exact).quantile(f64(0.5))), rel=1e-3)


def test_a_fit_below_the_truths_error_is_refused_and_says_so(table):
    blurred = table.assign(reference_bound=1.0)
    assert real_flow.derive(blurred)["fits"]["status"].str.contains("must exceed the floor").all()


def test_cells_repeat_and_the_quick_one_says_what_its_truth_is():
    first, second = (measure_cell(small(quick=True)) for _ in range(2))
    pd.testing.assert_frame_equal(first.drop(columns="seconds"), second.drop(columns="seconds"))
    assert set(first["truth_dtype"]) == {"float32"}


def test_the_figure_draws_and_says_numbers(tables):
    answer = figure.answer(tables)
    assert "1 of 2 claims hold" in answer
    assert "nan" not in answer
    figure.draw(tables)


def test_the_figure_draws_the_quick_table_whose_fits_fail(tables):
    found = tables | with_derived(measure_cell(small(quick=True)))
    answer = figure.answer(found)
    assert "falls as ζ" not in answer  # no slope could be fitted, and none is stated
    assert "nan" not in answer
    figure.draw(found)
