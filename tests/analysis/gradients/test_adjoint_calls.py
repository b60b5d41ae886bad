"""Optimise, then discretise: arguments, counts, memory and refusals of the estimators.

A batch is compared with its samples one by one, a network with the formulas that it computes, float32 with float64;
counts of evaluations and bytes are derived by hand from the stages of each solver.
"""

import numpy as np
import pytest
import torch

from analysis import cost, gradients, losses
from analysis.flow import from_denoiser, from_noise_predictor, from_velocity
from analysis.gradients import ESTIMATORS
from analysis.gradients._adjoint import Rate
from analysis.paths import CondOT, Cosine
from tests.support.adjoints import LOSS, RUNGE_KUTTA, SETTINGS, every_setting, problem
from tests.support.problems import EPS, FromFormulas, distance, f64, randn, relative_l2


@every_setting
def test_per_sample_times_agree_with_one_by_one(name, options):
    t = f64([0.1, 0.35, 0.6, 0.85, 1.0])
    flow, x = problem(Cosine(), t)
    batch = ESTIMATORS[name](flow, LOSS, x, t, steps=3, **options)
    for i in range(5):
        one = ESTIMATORS[name](flow, LOSS, x[i : i + 1], float(t[i]), steps=3, **options)
        assert distance(batch.gradient[i : i + 1], one.gradient) <= 1e-12
        assert distance(batch.endpoint[i : i + 1], one.endpoint) <= 1e-12
    assert distance(batch.endpoint[4], x[4]) <= 4 * EPS  # at t = 1 the state is the sample already
    assert distance(batch.gradient[4], losses.value_and_gradient(LOSS, x)[1][4]) <= 4 * EPS


@every_setting
def test_networks_give_what_their_formulas_do(name, options):
    flow, x = problem(CondOT())
    expected = ESTIMATORS[name](flow, LOSS, x, 0.3, steps=4, **options).gradient
    makers = {"velocity": from_velocity}
    if name == "adjoint_deis":  # regular at t = 1 whatever is predicted
        makers |= {"target": from_denoiser, "source": from_noise_predictor}
    for prediction, make in makers.items():
        learned = make(FromFormulas(flow, prediction), CondOT())
        found = ESTIMATORS[name](learned, LOSS, x, 0.3, steps=4, **options)
        assert distance(found.gradient, expected) <= 1e-10
        assert not found.gradient.requires_grad


@every_setting
def test_float32_stays_float32(name, options):
    flow, x = problem(CondOT())
    double = ESTIMATORS[name](flow, LOSS, x, 0.3, steps=4, **options).gradient
    single = ESTIMATORS[name](flow.to(torch.float32, "cpu"), LOSS, x.float(), 0.3, steps=4, **options)
    assert single.gradient.dtype == single.endpoint.dtype == torch.float32
    assert distance(single.gradient.double(), double) <= 1e-4


def test_events_of_images_are_kept():
    convolution = torch.nn.Conv2d(2, 2, 3, padding=1).double()
    flow, x = from_velocity(lambda x, t: convolution(x) * t[:, None, None, None], CondOT()), randn(3, 2, 4, 5)
    loss, t = losses.HalfSquaredDistance(randn(2, 4, 5, seed=1)), f64([0.2, 0.5, 0.9])
    for name, options in SETTINGS:
        found = ESTIMATORS[name](flow, loss, x, t, steps=2, **options)
        one = ESTIMATORS[name](flow, loss, x[1:2], 0.5, steps=2, **options)
        assert found.gradient.shape == x.shape
        assert distance(found.gradient[1:2], one.gradient) <= 1e-12


@pytest.mark.parametrize(("solver", "stages"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)])
def test_every_evaluation_is_counted(solver, stages):
    flow, x = problem(CondOT())
    for name, extra in (("adjoint_backsolve", 0), ("adjoint_cached", 0), ("adjoint_interpolated", 1)):
        found = ESTIMATORS[name](flow, LOSS, x, 0.3, steps=5, solver=solver).cost
        assert (found.evaluations, found.vjps) == (2 * 5 * stages + extra, 5 * stages)
    deis = gradients.adjoint_deis(flow, LOSS, x, 0.3, steps=5, order=2).cost
    assert (deis.evaluations, deis.vjps) == (5 + 4, 4)


def test_only_backsolve_forgets_the_trajectory():
    flow, _ = problem(CondOT())
    x, steps = randn(2000, 3), (4, 20)
    state = x.numel() * x.element_size()
    with cost.track_memory():
        grown = {
            name: np.diff([ESTIMATORS[name](flow, LOSS, x, 0.3, steps=n).cost.bytes for n in steps])[0]
            for name in (*RUNGE_KUTTA, "adjoint_deis")
        }
    assert grown["adjoint_backsolve"] < state  # the grid, and nothing of the size of a state
    assert 0.9 * 16 * state < grown["adjoint_cached"] < 1.2 * 16 * state
    assert 0.9 * 16 * state < grown["adjoint_deis"] < 1.2 * 16 * state
    assert 1.8 * 16 * state < grown["adjoint_interpolated"] < 2.2 * 16 * state  # states and velocities


@pytest.mark.parametrize("name", [*RUNGE_KUTTA, "adjoint_deis"])
@pytest.mark.parametrize("steps", [0, -1, 1.5, True, "2"])
def test_steps_below_one_are_refused(name, steps):
    flow, x = problem(CondOT())
    with pytest.raises(ValueError, match="steps must be an integer of at least 1"):
        ESTIMATORS[name](flow, LOSS, x, 0.3, steps=steps)


@pytest.mark.parametrize("name", RUNGE_KUTTA)
@pytest.mark.parametrize("solver", ["ddim", "ode45"])
def test_solvers_that_are_not_in_t_are_refused(name, solver):
    flow, x = problem(CondOT())
    with pytest.raises(ValueError, match=f"solver must be one of euler, heun, midpoint, rk4; got '{solver}'"):
        ESTIMATORS[name](flow, LOSS, x, 0.3, steps=2, solver=solver)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 3}, "order must be 1 or 2, got 3"),
        ({"order": 2, "expansion": "t"}, "expansion must be one of log_snr, zeta; got 't'"),
        ({"t": 0.0}, "t must lie where alpha is positive"),
        ({"t": f64([0.1, 0.0, 0.2, 0.3, 0.4])}, "t must lie where alpha is positive"),
        ({"t": 1.5}, r"t must lie in \[0, 1\]"),
    ],
)
def test_deis_refuses(options, message):
    flow, x = problem(CondOT())
    with pytest.raises(ValueError, match=message):
        gradients.adjoint_deis(flow, LOSS, x, **({"t": 0.3, "steps": 2} | options))


def test_the_others_start_at_time_zero_too():
    flow, x = problem(CondOT())
    truth = gradients.end_to_end(flow, LOSS, x, 0.0, steps=32, solver="rk4").gradient
    for name in RUNGE_KUTTA:
        assert relative_l2(ESTIMATORS[name](flow, LOSS, x, 0.0, steps=32, solver="rk4").gradient, truth).max() < 1e-3


def test_a_rate_is_not_differentiated():
    flow, x = problem(CondOT())
    rate = Rate(flow, lambda x, t, readout: x)
    readout = flow.path.readout("velocity", f64(0.3))
    with pytest.raises(TypeError, match="Rate can be solved but not differentiated"):
        rate.predict_vjp(x, f64(0.3), readout)
