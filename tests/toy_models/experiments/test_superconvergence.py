"""Measured orders of single steps against those of theory, and the figure.

The theory (``analysis.bounds.single_step``) is derived from the paths and tableaux alone and uses no measured error;
facts are recomputed from slopes made by hand.
"""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from analysis.bounds.single_step import steps_in_zeta
from analysis.experiment import measure_cell
from analysis.settings import Options
from figures import superconvergence as figure
from toy_models.experiments import superconvergence as experiment

TOLERANCE = 0.15


@pytest.fixture(scope="module")
def tables():
    table = pd.concat([measure_cell(c) for c in experiment.cells(Options(quick=True))], ignore_index=True)
    return {"superconvergence": table, **{f"superconvergence_{k}": v for k, v in experiment.derive(table).items()}}


def test_measured_slopes_are_those_of_theory(tables):
    slopes = tables["superconvergence_slopes"]
    assert (slopes["status"] == "ok").all()
    own = slopes[(slopes["variable"] == "zeta") == slopes["solver"].map(steps_in_zeta)]
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
    table = pd.DataFrame({"zeta": zeta, "t": 1 - zeta**2, "value": zeta**2, "problem": "p", "path": "vp_linear"})
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
    assert "Locally DDIM's slope on linear VP is 1.9" in figure.answer(tables)
