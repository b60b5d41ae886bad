"""Single-step orders: theory against the paths and tableaux themselves, against measurements, and the figure."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from analysis import paths
from analysis.experiment import measure_cell
from analysis.gradients import end_to_end
from analysis.losses import Linear
from analysis.settings import Options
from analysis.solvers import SOLVERS
from analysis.solvers.tableaux import TABLEAUX
from figures import superconvergence as figure
from tests.support.problems import f64, user_path
from toy_models import ProductMixtureFlow
from toy_models.experiments import superconvergence as experiment

TOLERANCE = 0.15
THREE_MODES = [(f64([0.3, 0.4, 0.3]), f64([-2.0, 0.3, 1.7]), f64([0.3, 0.2, 0.4]))]


@pytest.fixture(scope="module")
def tables():
    table = pd.concat([measure_cell(c) for c in experiment.cells(Options(quick=True))], ignore_index=True)
    return {"superconvergence": table, **{f"superconvergence_{k}": v for k, v in experiment.derive(table).items()}}


def test_which_paths_are_mirrored():
    assert experiment.mirrored(paths.Cosine())
    assert experiment.mirrored(paths.VarianceExploding())
    others = (paths.CondOT(), paths.LinearVP(), paths.Polynomial(), user_path())
    assert not any(experiment.mirrored(p) for p in others)


@pytest.mark.parametrize("tableau", TABLEAUX)
def test_a_mirrored_step_has_an_even_exponent(tableau):
    order = SOLVERS[tableau].order
    for path, solver in ((paths.Cosine(), tableau), (paths.LinearVP(), f"{tableau}_zeta")):
        exponent = experiment.exponent(path, solver)
        assert exponent % 2 == 0
        assert order + 1 <= exponent <= order + 2


def test_midpoint_alone_of_its_order_gains_on_condot():
    found = {s: experiment.exponent(paths.CondOT(), s) for s in ("midpoint", "heun", "ralston")}
    assert found == {"midpoint": 4, "heun": 3, "ralston": 3}


@pytest.mark.parametrize(
    ("path", "solver", "zeta", "time"),
    [("condot", "rk4", 5, 5), ("vp_linear", "ddim", 2, 1), ("vp_linear", "euler", 4, 2), ("ve", "rk4", 6, 6)],
)
def test_theory_in_both_variables(path, solver, zeta, time):
    assert experiment.theory(path, solver, "zeta") == zeta
    assert experiment.theory(path, solver, "1 - t") == time


@pytest.mark.parametrize("path", [paths.CondOT(), paths.Cosine()])
@pytest.mark.parametrize("solver", ["euler", "midpoint", "heun", "rk4", "ddim"])
def test_three_modes_in_one_dimension(path, solver):
    # |DPhi - DPhi_RK| itself, between two step sizes, on states that the experiment does not use.
    flow = ProductMixtureFlow(THREE_MODES, torch.eye(1), path)
    zeta = f64([0.04, 0.02]) if SOLVERS[solver].order == 4 else f64([0.01, 0.005])
    t = path.time_from_zeta(zeta).repeat_interleave(5)
    x = path.alpha(t)[:, None] * f64([-2.2, -1.6, 0.1, 0.9, 1.6]).repeat(2)[:, None]
    one = Linear(torch.ones(1, dtype=torch.float64))
    exact = flow.exact_endpoint_vjp(x, t)[1](torch.ones_like(x))
    error = (end_to_end(flow, one, x, t, steps=1, solver=solver).gradient - exact).abs().reshape(2, 5)
    slope = torch.log2(error[0] / error[1]).median()
    assert float(slope) == pytest.approx(experiment.exponent(path, solver), abs=TOLERANCE)


def test_gradients_are_products_with_the_jacobian():
    subject = experiment.subject("product256", "condot")
    times, generator = f64([0.5, 0.9]), torch.Generator().manual_seed(0)
    x, loss = subject.states(times, 3, generator), subject.loss(2, 3, generator)
    torch.testing.assert_close(x[:3] / 0.5, x[3:] / 0.9)
    assert loss.direction.shape == x.shape == (6, 8)
    torch.testing.assert_close(loss.direction.norm(dim=1), torch.ones(6, dtype=torch.float64))
    assert torch.equal(loss.direction[:3], loss.direction[3:])


def test_measured_slopes_are_those_of_theory(tables):
    slopes = tables["superconvergence_slopes"]
    assert (slopes["status"] == "ok").all()
    own = slopes[(slopes["variable"] == "zeta") == slopes["solver"].map(experiment.in_zeta)]
    # RK4 in t on linear VP reaches round-off where the schedule still bends: above p + 1, and not yet there.
    early = (own["path"] == "vp_linear") & (own["solver"] == "rk4")
    assert (own[~early]["slope"] - own[~early]["theory"]).abs().max() < TOLERANCE
    assert (own["slope"] > own["declared"] + 1 - TOLERANCE).all()
    assert ((slopes["low"] <= slopes["slope"]) & (slopes["slope"] <= slopes["high"])).all()


def test_a_solver_that_cannot_run_is_a_row_that_says_why():
    (cell, *_) = experiment.cells(Options(quick=True))
    table = measure_cell(cell)
    refused = table[table["solver"] == "rk4"].head(1).assign(status="infinite coefficients", metric=None)
    found = experiment.derive(pd.concat([table[table["solver"] == "euler"], refused]))
    assert found["slopes"].set_index("solver").loc[["rk4"], "status"].tolist() == ["infinite coefficients"]
    assert found["facts"]["refused"].tolist() == [1]


def test_the_facts_are_those_of_hand_made_slopes():
    # Three fits in their own variable, one of them off theory; DDIM's two slopes in zeta are log(4)/log(2) exactly.
    fits = pd.DataFrame({"path": "condot", "solver": ["euler", "midpoint", "ddim", "rk4"], "variable": "1 - t"})
    fits = fits.assign(slope=[2.0, 4.1, 1.0, 9.0], theory=[2, 4, 2, 5], declared=[1, 2, 1, 4], status="ok")
    zeta = np.array([0.01, 0.02, 0.04, 0.8])
    table = pd.DataFrame({"zeta": zeta, "h": zeta**2, "value": zeta**2, "problem": "p", "path": "vp_linear"})
    table = table.assign(solver="ddim", metric="relative_error", status="ok")
    row = experiment.facts(table, fits).to_dict("records")[0]
    assert (row["fits"], row["near"], row["exceed"], row["midpoint"]) == (3, 2, 1, True)
    assert row["vp_low"] == row["vp_high"] == pytest.approx(2)
    assert row["vp_first"] == row["vp_last"] == pytest.approx(1)


def test_the_figure_draws_and_answers(tables):
    drawn = figure.draw(tables)
    drawn.canvas.draw()
    assert len(drawn.axes) == 9
    plt.close(drawn)
    assert "On linear VP, DDIM's slope is 1.9" in figure.answer(tables)
