"""What a user's function is asked before it is believed: functions with one fault each, beside the same without.

Right values are those of the clean function, or finite differences. Every warning is an error in these tests, so that a
function which is right must pass without one.
"""

import functools
import warnings

import pytest
import torch

from analysis import losses, paths
from analysis.flow import Reparametrized, from_denoiser, from_velocity
from analysis.gradients import ESTIMATORS, lookahead_surface
from analysis.gradients._adaptive import choices
from analysis.guidance import SAMPLERS
from analysis.probe import networks_in, training_modules
from analysis.reference import ideal_gradient
from tests.support.problems import distance, randn

X, LOSS = randn(8, 2), losses.HalfSquaredDistance([1.0, -1.0])
CONDOT = paths.CondOT()


def network(*middle):
    generator = torch.Generator().manual_seed(0)
    made = torch.nn.Sequential(torch.nn.Linear(3, 16), *middle, torch.nn.Tanh(), torch.nn.Linear(16, 2)).double()
    for p in made.parameters():
        p.data = torch.randn(p.shape, generator=generator, dtype=torch.float64) / 2
    return made


def called(net, x, t):
    return net(torch.cat([x, t[:, None]], 1))


NET = network()


def greedy(function, x=X):
    return ESTIMATORS["greedy"](from_velocity(function, CONDOT), LOSS, x, 0.3).gradient


# Input


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


# Derivatives


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


# Mode, chance, neighbours


@pytest.mark.parametrize(
    ("middle", "name"),
    [
        (torch.nn.BatchNorm1d(16), r"1 \(BatchNorm1d\)"),
        (torch.nn.Dropout(0.5), r"1 \(Dropout\)"),
        (torch.nn.Sequential(torch.nn.AlphaDropout(0.1)), r"1.0 \(AlphaDropout\)"),
    ],
)
def test_a_network_in_training_mode_is_warned_about_where_that_matters(middle, name):
    net = network(middle)
    state = torch.get_rng_state()
    for function in (net.forward, functools.partial(called, net), lambda x, t: called(net, x, t)):
        before = [b.clone() for b in net.buffers()]
        assert training_modules(function)
        flow = from_velocity(functools.partial(called, net), CONDOT)
        with pytest.warns(RuntimeWarning, match=rf"is in training mode, which matters to {name}: call .eval\(\) on it"):
            flow.ask(X, torch.tensor(0.3, dtype=torch.float64))
        assert len(before) == len(list(net.buffers()))
    assert torch.equal(state, torch.get_rng_state())
    net.eval()
    assert torch.isfinite(greedy(functools.partial(called, net))).all()
    whole, half = (greedy(functools.partial(called, net), part) for part in (X, X[:4]))
    assert distance(whole[:4], half) <= 1e-12


def test_training_mode_without_effect_is_not_warned_about():
    net = network(torch.nn.Dropout(0.0), torch.nn.InstanceNorm1d(16, track_running_stats=False))
    assert not training_modules(net)
    assert torch.isfinite(greedy(functools.partial(called, network(torch.nn.Dropout(0.0))))).all()


def test_chance_is_warned_about():
    with pytest.warns(RuntimeWarning, match="does not say the same twice"):
        greedy(lambda x, t: -x + torch.randn_like(x))


def test_samples_that_influence_each_other_are_warned_about():
    with pytest.warns(RuntimeWarning, match="says something else of a sample alone than in a batch"):
        greedy(lambda x, t: -x + x.mean(0))


def test_a_function_that_takes_whole_batches_only_is_taken():
    labels = torch.arange(8.0).double()[:, None]
    expected = (1 - 0.7 * labels) * ((1 - 0.7 * labels) * X - LOSS.target)
    assert distance(greedy(lambda x, t: -labels * x), expected) <= 1e-12


def test_a_function_is_asked_once_for_all_copies_of_its_flow():
    calls = []

    def counted(x, t):
        calls.append(len(x))
        return -x

    flow = from_velocity(counted, CONDOT)
    ESTIMATORS["greedy"](flow, LOSS, X, 0.3)
    first = len(calls)
    for again in (flow, flow.with_path(paths.Cosine()), flow):
        ESTIMATORS["greedy"](again, LOSS, X, 0.3)
    assert len(calls) == first + 3
    assert first <= 15
    assert max(calls[:-4]) <= 4  # a few samples are enough


def test_a_denoiser_is_asked_at_times_that_it_takes():
    times = []

    def denoiser(x, t):
        times.append(float(t.max()))
        return x / 2

    ESTIMATORS["end_to_end"](from_denoiser(denoiser, CONDOT, t_max=0.9), LOSS, X, 1.0, steps=2)
    assert max(times, default=0) <= 0.9


def test_networks_are_found_in_what_refers_to_them():
    class Owner:
        def __init__(self):
            self.net = NET

        def velocity(self, x, t):
            return called(self.net, x, t)

    for function in (
        NET,
        NET.forward,
        functools.partial(called, NET),
        lambda x, t: called(NET, x, t),
        Owner().velocity,
    ):
        assert NET in list(networks_in(function))


@pytest.mark.parametrize(
    ("function", "x", "message"),
    [
        (NET, X, r"must take x \(8, 2\) torch.float64 and t \(8,\) torch.float64, and raises TypeError"),
        (lambda x, t: called(NET, x, t), X.float(), "its weights are torch.float64: convert x or the network"),
        (lambda x, t: NET(torch.cat([x, t], 1)), X, "for times of another shape or scale use real_models.adapters"),
        (lambda x, t: torch.nn.functional.embedding(t, torch.ones(9, 2)), X, "raises RuntimeError"),
    ],
)
def test_an_error_in_a_function_says_what_it_was_given(function, x, message):
    with pytest.raises(ValueError, match=message):
        ESTIMATORS["greedy"](from_velocity(function, CONDOT), LOSS, x, 0.3)


def test_running_out_of_memory_is_passed_on():
    def full(x, t):
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        ESTIMATORS["greedy"](from_velocity(full, CONDOT), LOSS, X, 0.3)


# Losses


def coupled(z):
    return (z - z.mean(0)).square().sum(1)


def test_a_loss_that_couples_samples_is_warned_about():
    flow = from_velocity(lambda x, t: -x, CONDOT)
    with pytest.warns(RuntimeWarning, match="the value of one sample depends on another"):
        ESTIMATORS["greedy"](flow, coupled, X, 0.3)


@pytest.mark.parametrize("sampler", [True, False])
def test_a_loss_that_does_not_couple_samples_is_not_warned_about(sampler):
    flow, targets = from_velocity(lambda x, t: -x, CONDOT), randn(8, 2, seed=1)
    for loss in (lambda z: (z - targets).square().sum(1), lambda z: z.square().sum(1), LOSS):
        call = (
            functools.partial(SAMPLERS["posterior_guidance"], steps=2, scale=0.1) if sampler else ESTIMATORS["greedy"]
        )
        call(flow, loss, X, *(() if sampler else (0.3,)))


@pytest.mark.parametrize("frozen", [True, False])
def test_a_loss_that_detaches_its_input_is_refused(frozen):
    classifier = torch.nn.Linear(2, 3).double().requires_grad_(not frozen)
    with pytest.raises(
        ValueError, match="loss must be differentiable: its value does not depend on x through autograd"
    ):
        ESTIMATORS["greedy"](
            from_velocity(lambda x, t: -x, CONDOT), lambda z: classifier(z.detach()).logsumexp(1), X, 0.3
        )


# Inference mode


def test_inference_mode_is_named():
    flow = from_velocity(functools.partial(called, NET), CONDOT)
    with torch.inference_mode():
        made = randn(3, 2)
        for name in ("greedy", "identity_jacobian"):
            with pytest.raises(ValueError, match=r"inside torch.inference_mode\(\)"):
                ESTIMATORS[name](flow, LOSS, made, 0.3)
        assert torch.isfinite(flow.velocity(made, 0.3)).all()
    expected = ESTIMATORS["greedy"](flow, LOSS, randn(3, 2), 0.3).gradient
    assert torch.equal(ESTIMATORS["greedy"](flow, LOSS, made, 0.3).gradient, expected)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(ESTIMATORS["greedy"](flow, LOSS, randn(3, 2), 0.3).gradient, expected)
