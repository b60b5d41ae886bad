"""Solvers against a fine solve, the conditions of their tableaux, each other, and autograd through their steps."""

import pytest
import torch

from analysis import solvers
from analysis.cost import metered, track_memory
from analysis.flow import from_velocity
from analysis.orders import fit_order
from analysis.paths import CondOT, Cosine, LinearVP
from analysis.solvers import grids
from analysis.solvers.grids import time_grid
from analysis.solvers.tableaux import TABLEAUX
from tests.support.problems import distance, f64, randn
from toy_models.problems import zoo

START, END, ONE = (torch.tensor(t, dtype=torch.float64) for t in (0.3, 0.9, 1.0))
STEPS = (4, 8, 16, 32, 64, 128, 256)


@pytest.fixture(scope="module", params=["condot", "vp_linear"])
def setting(request):
    subject = zoo.subject("overlapping", request.param)
    x = subject.states(START[None], 16, torch.Generator().manual_seed(0))
    grid = solvers.uniform_grid(START, END, 512)
    return subject.flow, x, solvers.solve(subject.flow, x, solvers.plan("dopri5", subject.flow.path, grid))


@pytest.mark.parametrize("name", solvers.SOLVERS)
def test_each_solver_has_the_order_it_declares(setting, name):
    flow, x, truth = setting
    errors = []
    for n in STEPS:
        end = solvers.solve(flow, x, solvers.plan(name, flow.path, solvers.uniform_grid(START, END, n)))
        errors.append(float(((end - truth).norm(dim=1) / truth.norm(dim=1)).median()))
        if errors[-1] < 1e-12:
            break
    h = [1 / n for n in STEPS[: len(errors)]]
    slope = fit_order(h, errors, floor=1e-12, points=3).slope
    declared = solvers.SOLVERS[name].order
    assert slope > declared - 0.15
    # Order five is passed through on the way to round-off: its window is short and the fit is from above.
    assert slope < declared + (1.6 if declared == 5 else 0.15)


@pytest.mark.parametrize("name", TABLEAUX)
def test_tableaux_are_consistent(name):
    tableau = TABLEAUX[name]
    assert sum(tableau.b) == pytest.approx(1, abs=1e-15)
    assert [sum(row) for row in tableau.a] == pytest.approx(list(tableau.c), abs=1e-14)


@pytest.mark.parametrize("grid", grids.GRIDS)
def test_grids_start_and_end_exactly_and_are_even_in_their_variable(grid):
    path = LinearVP()
    times = time_grid(grid, path, START, END, 8)
    assert times[0] == START
    assert times[-1] == END
    variable = {"t": lambda t: t, "zeta": path.zeta, "logsnr": path.log_snr, "edm": lambda t: path.zeta(t) ** (1 / 7)}
    gaps = variable[grid](times).diff()
    torch.testing.assert_close(gaps, gaps.mean().expand(8), rtol=1e-9, atol=0)


def test_a_grid_of_per_sample_times_is_a_grid_for_each():
    start = torch.tensor([0.1, 0.5], dtype=torch.float64)
    both = time_grid("edm", Cosine(), start, END, 4)
    for i, t in enumerate(start):
        torch.testing.assert_close(both[:, i], time_grid("edm", Cosine(), t, END, 4))


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("nothing", "grid must be one of edm, logsnr, t, zeta"),
        (torch.tensor([0.3, 0.5, 0.4, 0.9]), "grid must hold"),
        (torch.tensor([0.3, 0.5, 0.9]), "grid must hold"),
        (torch.tensor([0.3, 0.5, 0.7, 1.2]), "grid must hold"),
        (torch.tensor([0.2, 0.5, 0.7, 0.9], dtype=torch.float64), "grid must start at t"),
    ],
)
def test_bad_grids_are_refused(grid, message):
    with pytest.raises(ValueError, match=message):
        time_grid(grid, CondOT(), START, END, 3)


def test_a_variable_that_is_infinite_at_an_end_is_refused_by_name():
    zero = torch.zeros((), dtype=torch.float64)
    with pytest.raises(ValueError, match="zeta is infinite"):
        time_grid("zeta", CondOT(), zero, END, 4)
    with pytest.raises(ValueError, match="logsnr is infinite"):
        time_grid("logsnr", CondOT(), START, ONE, 4)
    with pytest.raises(ValueError, match=r"rk4_gamma.*infinite coefficients"):
        solvers.plan("rk4_gamma", CondOT(), solvers.uniform_grid(START, ONE, 4))
    with pytest.raises(ValueError, match=r"heun_zeta.*infinite coefficients"):
        solvers.plan("heun_zeta", CondOT(), solvers.uniform_grid(zero, END, 4))


def test_gamma_takes_its_limit_where_it_has_one():
    grid = solvers.uniform_grid(START, ONE, 4)
    flow = zoo.build("overlapping", CondOT())
    x = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ends = [solvers.solve(flow, x, solvers.plan(name, flow.path, grid)) for name in ("euler_gamma", "euler_zeta")]
    torch.testing.assert_close(*ends, rtol=1e-12, atol=1e-12)


def test_a_multistep_method_is_refused_where_one_step_is_taken():
    flow = zoo.build("gaussian", CondOT())
    stages = solvers.plan("ab2", flow.path, solvers.uniform_grid(START, END, 2))
    with pytest.raises(ValueError, match="one-step"):
        solvers.step(flow, torch.zeros(2, 6, dtype=torch.float64), stages[0])


@pytest.mark.parametrize("solver", solvers.SOLVERS)
def test_the_pullback_of_a_solve_is_that_of_autograd_through_its_steps(solver):
    # Steps of different lengths, so that a multistep method weights its past; what it remembers has a cotangent too.
    flow = zoo.build("overlapping", CondOT())
    grid = torch.tensor([0.1, 0.2, 0.45, 0.6, 0.9], dtype=torch.float64)
    x, v = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plan = solvers.plan(solver, flow.path, grid)
    end, pull = solvers.solve_vjp(flow, x, plan)
    start = x.clone().requires_grad_()
    same = solvers.solve(flow, start, plan)
    torch.testing.assert_close(end, same.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(pull(v), torch.autograd.grad(same, start, v)[0], rtol=1e-10, atol=1e-10)


def test_adams_bashforth_is_exact_for_velocities_linear_in_time_on_unequal_steps():
    flow = from_velocity(lambda x, t: x * 0 + t[:, None], CondOT())
    grid = f64([0.0, 0.1, 0.4, 0.5, 1.0])
    end = solvers.solve(flow, randn(4, 3) * 0, solvers.plan("ab2", flow.path, grid))
    assert distance(end, torch.full((4, 3), 0.5 - 0.1**2 / 2, dtype=torch.float64)) <= 1e-15  # Euler's first step errs


class Shifted(CondOT):
    """A path of the user's own, which may change."""

    def _alpha(self, t):
        return t + 0.1


def test_a_plan_on_the_same_times_is_reused_and_no_other(setting):
    grid = solvers.uniform_grid(START, END, 5)
    plan = solvers.plan("rk4", CondOT(), grid)
    assert plan.reused
    assert solvers.plan("rk4", CondOT(), grid.clone()) is plan
    others = [
        solvers.plan("heun", CondOT(), grid),
        solvers.plan("rk4", Cosine(), grid),
        solvers.plan("rk4", CondOT(), grid[1:]),
        solvers.plan("rk4", CondOT(), grid[:, None]),
        solvers.plan("rk4", CondOT(), grid, 3),
    ]
    assert len({id(other) for other in (plan, *others)}) == 6
    with track_memory(), metered(setting[0], setting[1]):
        assert not solvers.plan("rk4", CondOT(), grid).reused  # so that its bytes are counted each time
    with torch.inference_mode():
        assert not solvers.plan("rk4", CondOT(), grid).reused
    assert not solvers.plan("rk4", CondOT(), grid.clone().requires_grad_()).reused
    assert not solvers.plan("rk4", Shifted(), grid).reused
    seen = []
    torch.func.vmap(lambda x: (seen.append(solvers.plan("rk4", CondOT(), grid)), x)[1])(grid)
    assert not seen[0].reused
