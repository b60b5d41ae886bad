"""What a user's function is asked before it is believed: functions with one fault each, beside the same without.

Right values are those of the clean function, or finite differences. Every warning is an error in these tests, so that a
function which is right must pass without one.
"""

import functools
import warnings

import pytest
import torch

from analysis import paths
from analysis.flow import Reparametrized, from_velocity
from analysis.gradients import ESTIMATORS, lookahead_surface
from analysis.gradients._adaptive import choices
from analysis.guidance import SAMPLERS
from analysis.reference import ideal_gradient
from tests.support.functions import CONDOT, LOSS, NET, X, called, greedy, network
from tests.support.problems import distance, f64


def in_place(x, t):
    x *= 2.0
    t *= 3.0
    return called(NET, x, t)


def clean(x, t):
    return called(NET, 2.0 * x, 3.0 * t)


@pytest.mark.parametrize("name", ["greedy", "identity_jacobian", "end_to_end", "adaptive"])
@pytest.mark.parametrize("t", [0.3, torch.linspace(0.1, 0.8, 8, dtype=torch.float64)])
def test_a_function_that_changes_its_input_gives_the_values_of_one_that_does_not(name, t):
    options = {"end_to_end": {"steps": 3}, "adaptive": {"tolerance": 0.1}}.get(name, {})
    x, times = X.clone(), t.clone() if isinstance(t, torch.Tensor) else t
    found, expected = (
        ESTIMATORS[name](from_velocity(f, CONDOT), LOSS, x, times, **options).gradient for f in (in_place, clean)
    )
    assert torch.equal(found, expected)
    assert torch.equal(x, X)
    assert torch.equal(torch.as_tensor(times), torch.as_tensor(t))


@pytest.mark.parametrize("x", [X, X.clone().requires_grad_()])
def test_a_velocity_leaves_the_state_as_it_was(x):
    state = x.clone()
    assert torch.equal(
        from_velocity(in_place, CONDOT).velocity(state, 0.3), from_velocity(clean, CONDOT).velocity(x, 0.3)
    )
    assert torch.equal(state, x)


def test_samplers_leave_the_noise_as_it_was():
    x0 = X.clone()
    found, expected = (
        SAMPLERS["posterior_guidance"](from_velocity(f, CONDOT), LOSS, x0, steps=4, scale=0.0).x
        for f in (in_place, clean)
    )
    assert torch.equal(found, expected)
    assert torch.equal(x0, X)


def detached(x, t):
    return called(NET, x.detach(), t)


def energy_of_a_copy(x, t):
    with torch.enable_grad():
        y = x.detach().requires_grad_()
        return torch.autograd.grad(called(NET, y, t).square().sum(), y, create_graph=True)[0]


@pytest.mark.parametrize("function", [detached, energy_of_a_copy])
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize(
    "call",
    [
        lambda flow: ESTIMATORS["greedy"](flow, LOSS, X, 0.3),
        lambda flow: ESTIMATORS["end_to_end"](flow, LOSS, X, 0.3, steps=2),
        lambda flow: choices(flow, LOSS, X, 0.3, tolerance=0.1),
        lambda flow: lookahead_surface(flow, LOSS, X, 0.3, [2], [1.0]),
        lambda flow: ideal_gradient(flow, LOSS, X, 0.3),
        lambda flow: SAMPLERS["posterior_guidance"](flow, LOSS, X, steps=2, scale=0.1),
    ],
)
def test_a_function_that_detaches_its_input_is_refused_whether_its_weights_are_frozen_or_not(call, frozen, function):
    NET.requires_grad_(not frozen)
    try:
        flow = from_velocity(function, CONDOT)
        for moved in (flow, flow.with_path(paths.Cosine()), Reparametrized(flow, paths.Cosine())):
            for _ in range(2):  # the second time as well
                with pytest.raises(
                    ValueError, match=r"(function|loss) must be differentiable: its output does not dep"
                ):
                    call(moved)
    finally:
        NET.requires_grad_(True)


def test_a_function_that_detaches_its_input_can_be_evaluated():
    flow = from_velocity(detached, CONDOT)
    assert torch.equal(flow.velocity(X, 0.3), from_velocity(functools.partial(called, NET), CONDOT).velocity(X, 0.3))
    assert torch.isfinite(SAMPLERS["posterior_guidance"](flow, LOSS, X, steps=2, scale=0.0).x).all()


def partly(x, t):
    return -x + called(NET, x.detach(), t)


def mostly(x, t):
    with torch.no_grad():
        scale = 1 + 4 * x.square().sum(1, keepdim=True)
    return x / scale


@pytest.mark.parametrize("function", [partly, mostly])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_function_of_which_a_part_is_detached_is_warned_about(function, dtype):
    net = NET.to(dtype)
    try:
        with pytest.warns(RuntimeWarning, match="has another derivative than its values"):
            greedy(function, X.to(dtype))
    finally:
        net.double()


def relu(x, t):
    return torch.relu(called(NET, 10 * x, t))


def steep(x, t):
    return torch.tanh(50 * called(NET, x, t))


@pytest.mark.parametrize(
    "function", [clean, relu, steep, lambda x, t: -x, lambda x, t: 0 * x, lambda x, t: x**3 - t[:, None]]
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_functions_that_are_right_are_not_warned_about(function, dtype):
    net = NET.to(dtype)
    try:
        assert torch.isfinite(greedy(function, X.to(dtype))).all()
    finally:
        net.double()


def test_the_derivative_of_a_moved_flow_is_asked_on_its_own_path():
    with pytest.warns(RuntimeWarning, match="has another derivative than its values"):
        ESTIMATORS["greedy"](from_velocity(partly, CONDOT).with_path(paths.Cosine()), LOSS, X, 0.3)


class Joined(torch.nn.Module):
    """A network of states and times joined, which TorchScript can compile."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x, t):
        return self.net(torch.cat([x, t[:, None]], 1))


def scripted(net):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(net)


@pytest.mark.parametrize("wrapped", [True, False])
def test_torchscript_is_refused_where_a_forward_mode_derivative_is_asked_for(wrapped):
    """That is wrong from its third run on: pytorch issues 73972 and 84681."""
    net, t = Joined(network()), f64(0.3)
    compiled = scripted(net)
    flow = from_velocity((lambda x, t: compiled(x, t)) if wrapped else compiled, CONDOT)
    for _ in range(4):
        assert distance(ESTIMATORS["greedy"](flow, LOSS, X, 0.3).gradient, greedy(net)) <= 1e-12
        with pytest.raises(ValueError, match="function must not be TorchScript for a forward-mode derivative"):
            torch.func.jvp(lambda y: flow.predict(y, t, CONDOT.readout("velocity", t)), (X,), (X,))


def test_torchscript_that_has_lost_its_derivatives_is_named():
    class Other(Joined):  # torch compiles each class once
        pass

    compiled = scripted(Other(network()))
    for _ in range(3):  # forwards, past the flow
        torch.func.jvp(lambda y: compiled(y, f64(0.3).expand(len(y))), (X,), (X,))
    with pytest.raises(ValueError, match=r"not depend on x through autograd; TorchScript loses derivatives"):
        greedy(compiled)
