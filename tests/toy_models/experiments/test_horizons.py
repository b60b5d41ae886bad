"""Greedy's shrinking and the best horizon: closed forms of one Gaussian, and identities between solvers."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from analysis.experiment import measure_cell
from analysis.settings import Options
from figures import best_horizon as horizon_figure
from figures import greedy_shrinks as shrink_figure
from toy_models.experiments import best_horizon, greedy_shrinks


def tables_of(experiment, name):
    table = pd.concat([measure_cell(c) for c in experiment.cells(Options(quick=True))], ignore_index=True)
    return {name: table} | {f"{name}_{key}": part for key, part in experiment.derive(table).items()}


@pytest.fixture(scope="module")
def shrinking():
    return tables_of(greedy_shrinks, "greedy_shrinks")


@pytest.fixture(scope="module")
def surface():
    return tables_of(best_horizon, "best_horizon")


def test_the_law_of_one_gaussian_to_round_off(shrinking):
    rows = shrinking["greedy_shrinks_directions"].dropna(subset=["variance"])
    expected = 1 / np.sqrt(1 + rows["zeta"] ** 2 / rows["variance"])
    assert (rows["value"] / expected - 1).abs().max() < 1e-13
    assert (rows["value"] / rows["law"] - 1).abs().max() < 1e-12
    assert (rows["above_one"] == 0).all()


def test_a_mixture_obeys_the_law_late_only(shrinking):
    rows = shrinking["greedy_shrinks_directions"]
    rows = rows[rows["variance"].isna()]
    assert rows[rows["zeta"] < 0.05]["deviation"].max() < 1e-3
    assert rows[rows["zeta"] > 1]["deviation"].max() > 0.1


def test_regrets_and_budgets_are_consistent(surface):
    found, budgets = surface["best_horizon_predicted"], surface["best_horizon_budgets"]
    assert (found["regret"] >= 1).all()
    assert (found["regret_of_1"] >= 1).all()
    printed = found[found["form"] == "printed"]
    assert (printed["predicted"] == 1).all()
    assert ((found["good_low"] <= found["measured"]) & (found["measured"] <= found["good_high"])).all()
    # Euler fills every budget of 2 or more with steps; midpoint leaves one of an odd number over.
    euler = budgets[budgets["solver"] == "euler"]["budget"]
    assert {2, 3, 4} <= set(euler)
    assert (budgets[budgets["solver"] == "midpoint"]["budget"] % 2 == 1).all()


def test_lookahead_to_f_by_euler_on_condot_is_euler_with_one_step_more(surface):
    # Greedy is an Euler step there: n steps to f = n/(n + 1), then the projection, are n + 1 equal Euler steps.
    table = surface["best_horizon"]
    table = table[(table["solver"] == "euler") & (table["metric"] == "relative_error")]
    value = table.set_index(["steps", "fraction"])["value"]
    for n, horizon in ((1, 0.5), (3, 0.75)):
        assert value[n, horizon] == pytest.approx(value[n + 1, 1.0], rel=1e-10)


@pytest.mark.parametrize(
    ("figure", "fixture", "panels"), [(shrink_figure, "shrinking", 3), (horizon_figure, "surface", 3)]
)
def test_figures_draw_and_answer(figure, fixture, panels, request):
    tables = request.getfixturevalue(fixture)
    drawn = figure.draw(tables)
    drawn.canvas.draw()
    assert len(drawn.axes) == panels
    plt.close(drawn)
    assert "nan" not in figure.answer(tables)
