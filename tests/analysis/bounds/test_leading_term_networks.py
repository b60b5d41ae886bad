"""The leading term on networks: compiled, checkpointed, with attention, or without some derivative.

The truth is the same network written plainly.
"""

import warnings

import pytest
import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from analysis import gradients, losses
from analysis.bounds.leading_term import curvature, leading_term
from analysis.flow import Reparametrized, from_velocity
from analysis.paths import CondOT, Cosine, UserPath, VarianceExploding
from real_models import adapters
from real_models.adapters.schedules import SchedulePath
from tests.support.problems import EPS, distance, f64, randn

T = f64([0.2, 0.4, 0.6, 0.8, 0.95])
LOSS = losses.HalfSquaredDistance(f64([1.0, -0.5, 0.3]))


class NoForward(torch.autograd.Function):
    """tanh by hand, as an operation that knows no forward-mode derivative."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(ctx, v):
        return v * (1 - ctx.saved_tensors[0].tanh() ** 2)


class OnlyOnce(NoForward):
    """The same, whose derivative cannot be differentiated."""

    backward = staticmethod(torch.autograd.function.once_differentiable(NoForward.backward))


def network(nonlinearity):
    weight = randn(3, 3, seed=6)
    return from_velocity(lambda x, t: nonlinearity(x @ weight + t[:, None]) * (1 + t[:, None]), CondOT())


@pytest.mark.parametrize("t", [0.4, T], ids=["one time", "times"])
def test_an_operation_without_forward_mode_falls_back_to_two_backward_passes(t):
    x = randn(5, 3, seed=7)
    assert distance(curvature(network(NoForward.apply), x, t), curvature(network(torch.tanh), x, t)) <= 64 * EPS
    expected = leading_term(network(torch.tanh), LOSS, x, t)
    assert distance(leading_term(network(NoForward.apply), LOSS, x, t), expected) <= 256 * EPS


def by_hand(x, axes):
    """Normalised over axes, by the formula; torch's eps."""
    variance = x.var(axes, correction=0, keepdim=True)
    return (x - x.mean(axes, keepdim=True)) / (variance + 1e-5).sqrt()


SCALE, SHIFT = f64([1.5, -0.7, 0.4]), f64([0.1, 0.2, -0.3])
NORMS = {
    "layer_norm": (lambda x: functional.layer_norm(x, (3,)), lambda x: by_hand(x, 1)),
    "layer_norm with weights": (
        lambda x: functional.layer_norm(x, (3,), weight=SCALE, bias=SHIFT),
        lambda x: by_hand(x, 1) * SCALE + SHIFT,
    ),
    "layer_norm of two axes": (
        lambda x: functional.layer_norm(x[:, None] * SCALE[:, None], (3, 3)).sum(1),
        lambda x: by_hand(x[:, None] * SCALE[:, None], (1, 2)).sum(1),
    ),
    "LayerNorm": (torch.nn.LayerNorm(3, dtype=torch.float64), lambda x: by_hand(x, 1)),
    "torch.layer_norm": (lambda x: torch.layer_norm(x, (3,), SCALE), lambda x: by_hand(x, 1) * SCALE),
    "instance_norm": (
        lambda x: functional.instance_norm(x[:, None] * SCALE[:, None], weight=SCALE, bias=SHIFT).sum(1),
        lambda x: (by_hand(x[:, None] * SCALE[:, None], 2) * SCALE[:, None] + SHIFT[:, None]).sum(1),
    ),
    "InstanceNorm1d": (
        lambda x: torch.nn.InstanceNorm1d(3)(x[:, None] * SCALE[:, None]).sum(1),
        lambda x: by_hand(x[:, None] * SCALE[:, None], 2).sum(1),
    ),
    "running instance_norm": (
        lambda x: functional.instance_norm(x[:, :, None], SHIFT, SCALE.square(), use_input_stats=False)[..., 0],
        lambda x: (x - SHIFT) / (SCALE.square() + 1e-5).sqrt(),
    ),
    "group_norm": (lambda x: functional.group_norm(x, 1), lambda x: by_hand(x, 1)),
    "rms_norm": (
        lambda x: functional.rms_norm(x, (3,), eps=1e-5),
        lambda x: x / (x.square().mean(1, keepdim=True) + 1e-5).sqrt(),
    ),
}


@pytest.mark.parametrize("name", NORMS)
def test_a_normalisation_has_its_third_derivative(name):
    ours, plain = NORMS[name]
    x = randn(5, 3, seed=7)
    mine, expected = (leading_term(network(lambda h, f=f: torch.tanh(f(h))), LOSS, x, 0.4) for f in (ours, plain))
    assert distance(mine, expected) <= 1e4 * EPS


def test_what_cannot_be_differentiated_twice_is_refused():
    with pytest.raises(ValueError, match="flow must be differentiable twice in x and t"):
        curvature(network(OnlyOnce.apply), randn(5, 3), 0.4)


def test_no_graph_is_recorded_unless_asked():
    flow, x = network(torch.tanh), randn(5, 3)
    assert not curvature(flow, x, 0.4).requires_grad
    assert curvature(flow, x.requires_grad_(), 0.4).requires_grad


class Plain(torch.nn.Module):
    """A small network, which TorchScript can compile."""

    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Linear(4, 16).double(), torch.nn.Linear(16, 3).double()
        generator = torch.Generator().manual_seed(0)
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=generator, dtype=torch.float64) / p.shape[-1] ** 0.5

    def forward(self, x, t):
        return self.last(torch.tanh(self.first(torch.cat([x, t[:, None]], 1))))


class Attention(torch.nn.Module):
    """Numbers of one sample that attend to each other, by torch's fused kernel or by the formula."""

    def __init__(self, fused):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.fused, self.weight = fused, torch.randn(3, 4, generator=generator, dtype=torch.float64)

    def forward(self, x, t):
        q, k, v = ((x + t[:, None])[:, None, :, None] * w for w in self.weight)
        if self.fused:
            return torch.nn.functional.scaled_dot_product_attention(q, k, v).mean(3)[:, 0]
        return (torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1) @ v).mean(3)[:, 0]


def test_a_scripted_network_has_the_estimate_of_the_eager_one_after_any_number_of_runs():
    """Forward-mode derivatives of TorchScript are wrong from its third run on: pytorch issues 73972 and 84681."""
    net, x = Plain(), randn(5, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(net)
    found, expected = (from_velocity(function, CondOT()) for function in (scripted, net))
    for _ in range(4):
        assert distance(leading_term(found, LOSS, x, 0.3), leading_term(expected, LOSS, x, 0.3)) <= 1e-12
        one, other = (gradients.greedy(flow, LOSS, x, 0.3).gradient for flow in (found, expected))
        assert distance(one, other) <= 1e-12


def test_a_network_with_checkpointed_activations_has_the_estimate_of_the_plain_one():
    net, x = Plain(), randn(5, 3)
    kept = from_velocity(lambda x, t: checkpoint(net, x, t, use_reentrant=False), CondOT())
    assert distance(leading_term(kept, LOSS, x, 0.3), leading_term(from_velocity(net, CondOT()), LOSS, x, 0.3)) <= 1e-12


def test_attention_has_the_estimate_of_its_formula():
    x = randn(5, 3)
    fused, formula = (leading_term(from_velocity(Attention(fused), CondOT()), LOSS, x, 0.4) for fused in (True, False))
    assert distance(fused, formula) <= 1e-12


@pytest.mark.parametrize("t", [0.4, T])
def test_a_network_of_one_time_per_call_has_the_estimate_of_one_that_takes_many(t):
    net, x = Plain(), randn(5, 3)
    scalar = adapters.module.flow(lambda x, t: net(x, t.expand(len(x))), CondOT(), time_shape="scalar")
    assert distance(leading_term(scalar, LOSS, x, t), leading_term(from_velocity(net, CondOT()), LOSS, x, t)) <= 1e-12


@pytest.mark.parametrize("new", [Cosine(), VarianceExploding(5.0)])
def test_a_flow_moved_from_a_path_whose_times_are_found_by_root_finding_has_the_estimate_of_a_closed_form(new):
    same = UserPath(lambda t: t, lambda t: 1 - t)
    table = SchedulePath(lambda t: t, lambda t: 1 - t)
    expected = leading_term(from_velocity(Plain(), CondOT()).with_path(new), LOSS, randn(5, 3), T)
    for path in (same, table):
        flow = from_velocity(Plain(), path)
        for moved in (flow.with_path(new), Reparametrized(flow, new)):
            assert distance(leading_term(moved, LOSS, randn(5, 3), T), expected) <= 1e-6


def test_what_can_be_differentiated_once_only_is_refused_in_a_sentence():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.sin()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, g):
            return g * ctx.saved_tensors[0].cos()

    with pytest.raises(ValueError, match="flow must be differentiable twice in x and t, and is not"):
        leading_term(from_velocity(lambda x, t: Once.apply(x), CondOT()), LOSS, randn(2, 3), 0.4)
