"""Warnings about training mode, chance, samples and losses that influence each other; plain errors of a function.

A function with one fault is warned about or refused, and the same without it passes: warnings are errors in tests.
"""

import functools
import warnings

import pytest
import torch

from analysis import paths
from analysis.flow import from_denoiser, from_velocity
from analysis.gradients import ESTIMATORS
from analysis.guidance import SAMPLERS
from analysis.probe import networks_in, training_modules
from tests.support.functions import CONDOT, LOSS, NET, X, called, greedy, network
from tests.support.problems import distance, randn


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
        assert all(map(torch.equal, before, net.buffers()))
    assert torch.equal(state, torch.get_rng_state())
    net.eval()
    assert torch.isfinite(greedy(functools.partial(called, net))).all()
    whole, half = (greedy(functools.partial(called, net), part) for part in (X, X[:4]))
    assert distance(whole[:4], half) <= 1e-12


def test_what_is_asked_leaves_running_statistics_as_they_were():
    net, asked = network(torch.nn.BatchNorm1d(16)), network(torch.nn.BatchNorm1d(16))
    called(net, X, torch.full((8,), 0.3, dtype=torch.float64))
    with pytest.warns(RuntimeWarning, match="is in training mode"):
        greedy(functools.partial(called, asked))
    for once, buffer in zip(net.buffers(), asked.buffers(), strict=True):
        assert torch.equal(once, buffer)


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


@pytest.mark.parametrize("differentiated", [True, False])
def test_an_error_in_a_later_call_says_what_the_function_was_given(differentiated):
    net = torch.nn.Linear(2, 2)
    flow = from_velocity(lambda x, t: net(x), CONDOT)
    flow.velocity(X.float(), torch.tensor(0.3))
    ESTIMATORS["greedy"](flow, lambda z: z.square().sum(1), X.float(), 0.3)
    calls = {True: lambda: ESTIMATORS["greedy"](flow, LOSS, X, 0.3), False: lambda: flow.velocity(X, torch.tensor(0.3))}
    with pytest.raises(ValueError, match=r"must take x \(8, 2\) torch.float64 .* its weights are torch.float32: conv"):
        calls[differentiated]()


@pytest.mark.parametrize(
    "full", [torch.OutOfMemoryError("out of memory"), RuntimeError("CUDNN_STATUS_ALLOC_FAILED"), MemoryError()]
)
@pytest.mark.parametrize("calls", [0, 3])
def test_running_out_of_memory_is_passed_on(full, calls):
    left = iter(range(calls))

    def function(x, t):
        if next(left, None) is None:
            raise full
        return -x

    with pytest.raises(type(full)):
        ESTIMATORS["end_to_end"](from_velocity(function, CONDOT), LOSS, X, 0.3, steps=8)


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
        with warnings.catch_warnings(record=True) as given:
            warnings.simplefilter("always")
            call(flow, loss, X, *(() if sampler else (0.3,)))
        assert given == []


@pytest.mark.parametrize("frozen", [True, False])
def test_a_loss_that_detaches_its_input_is_refused(frozen):
    classifier = torch.nn.Linear(2, 3).double().requires_grad_(not frozen)
    with pytest.raises(
        ValueError, match="loss must be differentiable: its value does not depend on x through autograd"
    ):
        ESTIMATORS["greedy"](
            from_velocity(lambda x, t: -x, CONDOT), lambda z: classifier(z.detach()).logsumexp(1), X, 0.3
        )


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
