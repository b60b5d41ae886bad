"""The decomposition of a learned gradient's error, on a mixture of few dimensions and networks whose error is known."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.errors import relative
from analysis.experiment import measure_cell
from analysis.flow import PredictionFlow
from analysis.gradients import greedy
from analysis.paths import CondOT
from analysis.reference import ideal_gradient
from analysis.settings import DTYPES, Options
from analysis.subject import Subject
from figures import learning_vs_discretisation as figure
from real_models.experiments import learning_vs_discretisation as experiment
from tests.support.problems import random_mixture
from toy_models import MixtureFlow

D = 5


def analytic(path):
    return MixtureFlow(random_mixture(3, D), path)


class Learned(torch.nn.Module):
    """The exact velocity plus a linear error, its last product a matrix's, as in a network."""

    def __init__(self, dtype, error):
        super().__init__()
        self.flow = analytic(CondOT()).to(dtype, "cpu")
        self.matrix = torch.nn.Parameter((torch.eye(D) + error * torch.ones(D, D).tril()).to(dtype))

    def forward(self, x, t):
        with torch.autocast("cpu", enabled=False):
            velocity = self.flow.predict(x, t, self.flow.path.readout("velocity", t.double()))
        return velocity @ self.matrix


def subject(problem, path, dtype, device):
    learned, truth = (PredictionFlow(Learned(d, float(problem)), CondOT()) for d in (DTYPES[dtype], torch.float64))
    return Subject(learned, truth, None, None)


def small(error=0.1, **fields):
    cell = dataclasses.replace(experiment.cells(Options())[1], factory=f"{__name__}:subject", problem=str(error))
    extra = cell.extra_dict | {"analytic": f"{__name__}:analytic", "steps": 96}
    return dataclasses.replace(cell, samples=6, extra=tuple(extra.items()), **fields)


@pytest.fixture(scope="module")
def table():
    return measure_cell(small())


def part(table, name, **where):
    rows = table[table["part"] == name]
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return rows.sort_values(["steps", "state"])["value"].to_numpy()


def test_truth_is_certified_and_every_part_is_there_for_every_setting_and_state(table):
    assert set(table["truth"]) == {"certified"}
    assert table["truth_bound"].max() < 1e-9
    assert table["reference_bound"].max() < 1e-4
    cell = small()
    assert len(table) == len(cell.variants) * 7 * cell.samples
    assert np.isfinite(table["value"]).all()


def test_learning_is_the_distance_of_two_ideal_gradients(table):
    cell, flow = small(), analytic(CondOT())
    x, loss = experiment._states(flow, cell)
    learned = subject(cell.problem, "", "float64", "cpu").reference_flow
    truth, other = (ideal_gradient(f, loss, x, cell.times[0]).gradient for f in (flow, learned))
    np.testing.assert_allclose(part(table, "learning", estimator="greedy"), relative(other - truth, truth), rtol=1e-3)
    at_greedy = [greedy(f, loss, x, cell.times[0]).gradient for f in (learned, flow)]
    expected = relative(at_greedy[0] - at_greedy[1], at_greedy[1])
    np.testing.assert_allclose(part(table, "learning, same steps", estimator="greedy"), expected, rtol=1e-9)


def test_learning_and_discretisation_make_up_the_total(table):
    learning, discretisation, total = (part(table, name) for name in ("learning", "discretisation", "total"))
    assert (total <= (learning + discretisation) * (1 + 1e-9)).all()
    assert (total >= abs(learning - discretisation) * (1 - 1e-9)).all()


def test_discretisation_falls_at_the_order_of_the_solver_and_learning_stays(table):
    for solver, order in (("euler", 1), ("midpoint", 2)):
        errors = [np.median(part(table, "discretisation", solver=solver, steps=n)) for n in (8, 16)]
        assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)
    assert np.ptp(part(table, "learning", state=0)) == 0


def test_arithmetic_is_as_coarse_as_its_digits(table):
    single, half = (part(table, name) for name in ("float32", "bfloat16"))
    assert single.max() < 1e-4
    assert 1e-4 < np.median(half) < 0.1


def test_a_network_without_error_has_discretisation_alone():
    table = measure_cell(small(error=0.0, variants=small().variants[:3]))
    assert part(table, "learning").max() <= table["reference_bound"].max()
    here, there = (part(table, name) for name in ("discretisation", "discretisation, exact field"))
    np.testing.assert_allclose(here, there, rtol=1e-3)


def test_the_quick_truth_is_not_called_certified():
    cell = small()
    extra = cell.extra_dict | {"certified": False}
    table = measure_cell(dataclasses.replace(cell, extra=tuple(extra.items()), variants=cell.variants[:2]))
    assert set(table["truth"]) == {"converged"}
    assert 0 < table["truth_bound"].max() < 0.1


def made_up(ratios):
    """One time, one solver, discretisation over learning by steps, the same spread for three states."""
    rows = []
    for steps, ratio in ratios.items():
        names = {"t": 0.5, "estimator": "end_to_end" if steps else "greedy", "solver": "euler" if steps else None}
        for state, spread in enumerate((0.8, 1.0, 1.25)):
            values = {"learning": 1.0, "discretisation": ratio * spread}
            rows += [names | {"steps": steps, "state": state, "part": k, "value": v} for k, v in values.items()]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("ratios", "below", "surely"),
    [({0: 3, 2: 0.95, 4: 0.4}, 2, 4), ({0: 0.1, 2: 0.05}, 0, 0), ({0: 9, 2: 2}, None, None)],
)
def test_crossings_are_where_the_mean_and_where_the_whole_interval_are_below(ratios, below, surely):
    (found,) = experiment._crossings(made_up(ratios))
    assert (found["below"], found["surely_below"], found["most"]) == (below, surely, max(ratios))


def test_a_part_that_is_zero_fails_instead_of_counting():
    found = experiment._geometric(pd.Series([0.0, 1.0, 4.0]))
    assert (found["mean"], found["failed"], found["measurements"]) == (pytest.approx(2), 1, 3)


def test_only_a_network_can_be_cast():
    with pytest.raises(ValueError, match="flow must be a PredictionFlow"):
        experiment.autocast(analytic(CondOT()))


def test_the_figure_draws_and_says_numbers(table):
    both = pd.concat([table, table.assign(t=0.6)], ignore_index=True)
    found = {f"learning_vs_discretisation_{k}": v for k, v in experiment.derive(both).items()}
    answer = figure.answer(found)
    assert "Learning alone errs by" in answer
    assert "nan" not in answer
    figure.draw(found)
