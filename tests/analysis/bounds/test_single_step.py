"""Exponents of single steps: theory against the paths and tableaux themselves, and against an exact map's Jacobian."""

import pytest
import torch

from analysis import paths
from analysis.bounds.single_step import exponent, mirrored, own_exponent
from analysis.gradients import end_to_end
from analysis.losses import Linear
from analysis.paths import PATHS
from analysis.solvers import SOLVERS
from analysis.solvers.tableaux import TABLEAUX
from tests.support.problems import f64, user_path
from toy_models import ProductMixtureFlow

TOLERANCE = 0.15
THREE_MODES = [(f64([0.3, 0.4, 0.3]), f64([-2.0, 0.3, 1.7]), f64([0.3, 0.2, 0.4]))]


def test_which_paths_are_mirrored():
    assert mirrored(paths.Cosine())
    assert mirrored(paths.VarianceExploding())
    others = (paths.CondOT(), paths.LinearVP(), paths.Polynomial(), user_path())
    assert not any(mirrored(p) for p in others)


@pytest.mark.parametrize("tableau", TABLEAUX)
def test_a_mirrored_step_has_an_even_exponent(tableau):
    order = SOLVERS[tableau].order
    for path, solver in ((paths.Cosine(), tableau), (paths.LinearVP(), f"{tableau}_zeta")):
        own = own_exponent(path, solver)
        assert own % 2 == 0
        assert order + 1 <= own <= order + 2


def test_midpoint_alone_of_its_order_gains_on_condot():
    exponents = {s: own_exponent(paths.CondOT(), s) for s in ("midpoint", "heun", "ralston")}
    assert exponents == {"midpoint": 4, "heun": 3, "ralston": 3}


@pytest.mark.parametrize(
    ("path", "solver", "zeta", "time"),
    [("condot", "rk4", 5, 5), ("vp_linear", "ddim", 2, 1), ("vp_linear", "euler", 4, 2), ("ve", "rk4", 6, 6)],
)
def test_theory_in_both_variables(path, solver, zeta, time):
    assert exponent(PATHS[path](), solver, "zeta") == zeta
    assert exponent(PATHS[path](), solver, "1 - t") == time


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
    assert float(slope) == pytest.approx(own_exponent(path, solver), abs=TOLERANCE)
