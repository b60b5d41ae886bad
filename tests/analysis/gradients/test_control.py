"""Gradients in control signals: exact for the discrete map, and what T5 says as the steps grow."""

import numpy as np
import pytest
import torch

from analysis import gradients, losses, solvers
from analysis.flow import from_velocity
from analysis.gradients._control import control_gradients
from analysis.gradients.control_adjoint import Controlled, pair, stretches
from analysis.paths import CondOT, Cosine
from analysis.reference import ideal_gradient
from tests.support.problems import EPS, central_difference, distance, f64, randn, random_mixture, relative_l2, states
from toy_models import MixtureFlow

LOSS = losses.HalfSquaredResidual(randn(2, 3, seed=50), f64([0.5, -1.0]), noise=0.7)
TIMES = {"shared": 0.3, "per sample": f64([0.1, 0.3, 0.5, 0.7, 0.9])}
CONTROLS = 0.5 * randn(4, 5, 3, seed=60)


@pytest.fixture(params=TIMES)
def t(request):
    return TIMES[request.param]


def problem(path, t=0.3):
    mixture = random_mixture(3, 3, condition=3.0, spread=0.8)
    return MixtureFlow(mixture, path), states(mixture, path, t, 5)


def by_hand(flow, x, t, controls, steps, solver):
    """The endpoint of the controlled solve, from the textbook formulas."""
    t = torch.as_tensor(t, dtype=torch.float64).reshape(-1, 1)
    h = (1 - t) / (len(controls) * steps)
    for i, z in enumerate(controls.repeat_interleave(steps, 0)):

        def rate(y, c, z=z, start=t + i * h):
            s = (start + c * h).clamp(max=1)
            return flow.velocity(y, s[:, 0] if len(s) > 1 else float(s)) + z

        k1 = rate(x, 0)
        if solver == "euler":
            x = x + h * k1
        elif solver == "midpoint":
            x = x + h * rate(x + h / 2 * k1, 0.5)
        elif solver == "heun":
            x = x + h / 2 * (k1 + rate(x + h * k1, 1))
        else:
            k2 = rate(x + h / 2 * k1, 0.5)
            k3 = rate(x + h / 2 * k2, 0.5)
            x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + rate(x + h * k3, 1))
    return x


@pytest.mark.parametrize("solver", ["euler", "midpoint", "heun", "rk4"])
def test_the_gradient_is_autograd_through_the_textbook_solve(solver, t):
    flow, x = problem(Cosine(), t)
    z = CONTROLS.clone().requires_grad_()
    endpoint = by_hand(flow, x, t, z, 3, solver)
    (expected,) = torch.autograd.grad(LOSS(endpoint).sum(), z)
    found = control_gradients(flow, LOSS, x, t, CONTROLS, steps=3, solver=solver)
    assert distance(found.endpoint, endpoint.detach()) <= 1e-12
    assert distance(found.gradient, expected) <= 1e-12
    assert torch.equal(found.value, LOSS(found.endpoint))
    assert not found.gradient.requires_grad


def test_the_gradient_agrees_with_central_differences(t):
    flow, x = problem(CondOT(), t)
    direction = randn(4, 5, 3, seed=61)
    found = (control_gradients(flow, LOSS, x, t, CONTROLS, steps=2).gradient * direction).sum((0, 2))
    expected = central_difference(
        lambda z: control_gradients(flow, LOSS, x, t, z, steps=2).value, CONTROLS, direction, EPS**0.2 / 16
    )
    assert (found - expected).abs().max() <= 1e4 * EPS**0.8 * expected.abs().max()


def adjoints(flow, x, t, times):
    """The adjoint at each of some times on the uncontrolled trajectory: the ideal gradient at the states there."""
    found = [solvers.solve(flow, x, solvers.plan("rk4", flow.path, solvers.uniform_grid(f64(t), s, 64))) for s in times]
    ideal = ideal_gradient(flow, LOSS, torch.cat(found), times.repeat_interleave(len(x)))
    return ideal.gradient.unflatten(0, (len(times), -1))


def test_a_constant_control_has_the_integral_of_the_adjoint():
    # T5: by Gauss-Legendre quadrature of the adjoint, and by differences of the loss of a finely solved endpoint.
    flow, x, t = *problem(CondOT()), 0.3
    nodes, weights = (torch.from_numpy(v) * (1 - t) / 2 for v in np.polynomial.legendre.leggauss(12))
    integral = (weights[:, None, None] * adjoints(flow, x, t, (1 + t) / 2 + nodes)).sum(0)
    zero = torch.zeros(1, 5, 3).double()

    def found(steps, solver):
        return control_gradients(flow, LOSS, x, t, zero, steps=steps, solver=solver).gradient[0]

    assert relative_l2(found(64, "rk4"), integral).max() < 1e-6
    direction = randn(5, 3, seed=62)
    differences = central_difference(
        lambda z: LOSS(by_hand(flow, x, t, z[None], 64, "rk4")), zero[0], direction, EPS**0.2
    )
    assert ((integral * direction).sum(1) - differences).abs().max() < 1e-6 * differences.abs().max()
    errors = [float(relative_l2(found(n, "euler"), integral).median()) for n in (32, 64)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.2)


def test_the_functional_derivative_is_the_adjoint():
    # T5: a control on an interval of length h has h times the adjoint at its middle, to O(h^2).
    flow, x, t = *problem(CondOT()), 0.3
    errors = []
    for n in (8, 16):
        h, zero, k = (1 - t) / n, torch.zeros(n, 5, 3).double(), torch.tensor([0, n // 2, n - 1])
        found = control_gradients(flow, LOSS, x, t, zero, steps=4, solver="rk4").gradient[k] / h
        middle = adjoints(flow, x, t, t + (k + 0.5) * h)
        errors.append(float((found - middle).norm() / middle.norm()))
    assert errors[-1] < 1e-3
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.3)


def test_pieces_of_one_control_add_up(t):
    flow, x = problem(Cosine(), t)
    constant = CONTROLS[:1]
    whole = control_gradients(flow, LOSS, x, t, constant, steps=12, solver="heun")
    pieces = control_gradients(flow, LOSS, x, t, constant.repeat(4, 1, 1), steps=3, solver="heun")
    assert distance(pieces.gradient.sum(0), whole.gradient[0]) <= 64 * EPS
    assert distance(pieces.endpoint, whole.endpoint) <= 64 * EPS


def test_the_average_is_that_of_the_adjoint_and_the_loss_gradient_at_the_end():
    t = f64([0.1, 0.3, 0.5, 0.9, 1.0])
    flow, x = problem(CondOT(), t)
    found = gradients.control_average(flow, LOSS, x, t, steps=5, solver="heun")
    controlled = control_gradients(flow, LOSS, x, t, torch.zeros(1, 5, 3).double(), steps=5, solver="heun")
    assert torch.equal(found.endpoint, controlled.endpoint)
    assert distance(found.gradient[:4], controlled.gradient[0, :4] / (1 - t[:4, None])) <= 4 * EPS
    assert torch.equal(found.gradient[4], losses.value_and_gradient(LOSS, x)[1][4])
    uncontrolled = gradients.end_to_end(flow, LOSS, x, t, steps=5, solver="heun")
    assert distance(found.endpoint, uncontrolled.endpoint) <= 4 * EPS
    assert (found.cost.evaluations, found.cost.vjps) == (10, 10)


def reuse(flow, x, t, tolerance, solver="euler", steps=8):
    return control_gradients(flow, LOSS, x, t, CONTROLS, steps=steps, solver=solver, tolerance=tolerance)


@pytest.mark.parametrize("solver", ["euler", "rk4"])
def test_reuse_saves_products_and_errs_with_its_tolerance(solver, t):
    flow, x = problem(CondOT(), t)
    exact = control_gradients(flow, LOSS, x, t, CONTROLS, steps=8, solver=solver)
    assert torch.equal(reuse(flow, x, t, 0.0, solver).gradient, exact.gradient)
    assert torch.equal(reuse(flow, x, t, 0.0, solver).endpoint, exact.endpoint)
    found = [reuse(flow, x, t, tolerance, solver) for tolerance in (1e-12, 1e-2, 1e-1)]
    assert distance(found[0].gradient, exact.gradient) <= 1e-12
    assert all(distance(f.endpoint, exact.endpoint) <= 1e-12 for f in found)
    products = [f.cost.vjps for f in found]
    assert products[0] == exact.cost.vjps
    assert products[2] < products[1] < products[0]
    assert all(f.cost.evaluations == pytest.approx(exact.cost.evaluations + f.cost.vjps) for f in found)
    errors = [float(relative_l2(f.gradient.sum(0), exact.gradient.sum(0)).median()) for f in found]
    assert errors[0] < errors[1] < errors[2] < 0.2


def test_samples_have_stretches_of_their_own(t):
    flow, x = problem(CondOT(), t)
    batch = reuse(flow, x, t, 1e-2)
    times, spent = torch.as_tensor(t, dtype=torch.float64).expand(5), []
    for i in range(5):
        one = control_gradients(
            flow, LOSS, x[i : i + 1], float(times[i]), CONTROLS[:, i : i + 1], steps=8, tolerance=1e-2
        )
        assert distance(batch.gradient[:, i : i + 1], one.gradient) <= 1e-12
        spent.append(one.cost.vjps)
    assert len(set(spent)) > 1
    assert batch.cost.vjps == pytest.approx(np.mean(spent))


def test_a_straight_flow_needs_one_product_whatever_its_controls():
    flow = from_velocity(lambda x, t: 0 * x + torch.ones(3).double(), CondOT())
    x, target = randn(5, 3), losses.HalfSquaredDistance(f64([1.0, 2.0, 3.0]))
    exact = control_gradients(flow, target, x, 0.2, CONTROLS, steps=8)
    found = control_gradients(flow, target, x, 0.2, CONTROLS, steps=8, tolerance=1e-12)
    assert (exact.cost.vjps, found.cost.vjps) == (32, 1)
    assert distance(found.gradient, exact.gradient) <= 64 * EPS


def test_stretches_end_where_the_bends_add_up():
    # One sample turns between steps 2 and 3; the other has a small bend at each step, and the third does not move on.
    turning = f64([[1, 0], [1, 0], [1, 0], [0, 1], [0, 1], [0, 1]])
    bending = torch.stack([torch.ones(6).double(), 0.1 * torch.arange(6)], 1)
    velocities = torch.stack([turning, bending, torch.full((6, 2), torch.nan).double()], 1)
    found = stretches(velocities, 0.03)
    assert found[:, 0].tolist() == [0, 0, 0, 3, 4, 4]
    assert found[:, 2].tolist() == [0, 1, 2, 3, 4, 5]
    bends = 0.1**2 / (1 + (0.1 * np.arange(6)) ** 2)
    expected, total = [0], bends[0]
    for i in range(1, 6):
        expected.append(expected[-1] if total < 0.03 else i)
        total = bends[i] + (total if total < 0.03 else 0)
    assert found[:, 1].tolist() == expected


def test_a_sample_at_its_end_has_no_gradient_in_controls():
    t = f64([0.2, 0.4, 0.6, 0.8, 1.0])
    flow, x = problem(CondOT(), t)
    for tolerance in (0.0, 1e-2):
        found = control_gradients(flow, LOSS, x, t, CONTROLS, steps=2, tolerance=tolerance)
        assert (found.gradient[:, 4] == 0).all()
        assert torch.equal(found.endpoint[4], x[4])


def test_float32_and_events_of_images():
    convolution = torch.nn.Conv2d(2, 2, 3, padding=1)
    flow = from_velocity(lambda x, t: convolution(x) * t[:, None, None, None], CondOT())
    x, z = randn(3, 2, 4, 5).float(), randn(2, 3, 2, 4, 5, seed=1).float()
    target = losses.HalfSquaredDistance(torch.ones(2, 4, 5))
    for tolerance in (0.0, 1e-2):
        found = control_gradients(flow, target, x, f64([0.2, 0.5, 0.9]), z, steps=4, tolerance=tolerance)
        one = control_gradients(flow, target, x[1:2], 0.5, z[:, 1:2], steps=4, tolerance=tolerance)
        assert found.gradient.shape == z.shape
        assert found.gradient.dtype == torch.float32
        assert distance(found.gradient[:, 1:2], one.gradient) <= 1e-5
    assert not any(p.grad is not None for p in convolution.parameters())


def test_the_controlled_flow_has_the_derivatives_of_its_values():
    flow, x = problem(Cosine())
    controlled, state, tangent = Controlled(flow), pair(x, CONTROLS[0]), randn(5, 2, 3, seed=63)
    s = f64(0.3)
    readout = flow.path.readout("velocity", s)
    expected, out = torch.func.jvp(lambda y: controlled.predict(y, s, readout), (state,), (tangent,))
    covector = randn(5, 2, 3, seed=64)
    value, pull = controlled.predict_vjp(state, s, readout)
    pulled = pull(covector)
    assert distance(value, expected) <= 64 * EPS
    assert float((covector * out).sum() - (pulled * tangent).sum()) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"controls": CONTROLS[0]}, "controls must be n >= 1 tensors like x"),
        ({"controls": CONTROLS[:, :4]}, "controls must be n >= 1 tensors like x"),
        ({"controls": CONTROLS[:0]}, "controls must hold at least one"),
        ({"controls": CONTROLS.float()}, "controls must be n >= 1 tensors like x"),
        ({"controls": CONTROLS / 0}, "controls must be finite"),
        ({"tolerance": -1e-3}, "tolerance must be at least 0 and finite"),
        ({"tolerance": float("nan")}, "tolerance must be at least 0 and finite"),
        ({"tolerance": float("inf")}, "tolerance must be at least 0 and finite"),
        ({"steps": 0}, "steps must be an integer of at least 1"),
        ({"steps": 1.5}, "steps must be an integer of at least 1"),
        ({"solver": "ddim"}, "solver must be one of euler, heun, midpoint, rk4; got 'ddim'"),
        ({"t": 1.5}, r"t must lie in \[0, 1\]"),
        ({"x": randn(5, 4)}, r"x must have shape \(B, 3\)"),
        ({"loss": lambda x: x}, "loss must return one value per sample"),
    ],
)
def test_bad_input_is_refused(change, message):
    flow, x = problem(CondOT())
    arguments = {"loss": LOSS, "x": x, "t": 0.3, "controls": CONTROLS, "steps": 2} | change
    with pytest.raises(ValueError, match=message):
        control_gradients(flow, **arguments)


def test_controls_that_are_no_tensor_are_refused():
    flow, x = problem(CondOT())
    with pytest.raises(TypeError, match="controls must be a tensor or a NumPy array, got list"):
        control_gradients(flow, LOSS, x, 0.3, CONTROLS.tolist(), steps=2)


def test_a_gradient_that_is_not_finite_warns():
    flow, x = from_velocity(lambda x, t: x.abs().sqrt(), CondOT()), randn(5, 3)
    x[2] = 0
    with pytest.warns(RuntimeWarning, match="control_gradients: some gradients are not finite"):
        control_gradients(flow, LOSS, x, 0.3, torch.zeros(2, 5, 3).double(), steps=2)


def test_a_stretch_goes_back_in_one_step_with_the_average_of_its_controls():
    flow, x = problem(CondOT())
    found = control_gradients(flow, LOSS, x, 0.3, CONTROLS, steps=2, solver="midpoint", tolerance=1e9)
    z = CONTROLS.mean(0).requires_grad_()
    halfway = x + 0.35 * (flow.velocity(x, 0.3) + z)
    end = x + 0.7 * (flow.velocity(halfway, 0.65) + z)
    (expected,) = torch.autograd.grad((losses.value_and_gradient(LOSS, found.endpoint)[1] * end).sum(), z)
    assert distance(found.gradient, (expected / 4).expand(4, 5, 3)) <= 1e-12
