"""Gradients have no graph unless it is asked for; then they are differentiated again, against finite differences."""

import pytest
import torch

from analysis import cost, losses
from analysis.flow import Reparametrized, from_velocity
from analysis.gradients import ESTIMATORS, lookahead_surface
from analysis.gradients._adaptive import choices
from analysis.gradients._control import control_gradients
from analysis.guidance import SAMPLERS
from analysis.paths import CondOT, Cosine
from analysis.reference import ideal_gradient
from tests.support.problems import distance, f64, randn, random_mixture
from toy_models import MixtureFlow, ProductMixtureFlow

MIXTURE = random_mixture(3, 2)
LOSS = losses.HalfSquaredDistance([2.0, 1.0])
NET = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2)).double()
X = randn(3, 2)


def network(path=None):
    flow = from_velocity(lambda x, t: NET(torch.cat([x, t[:, None]], 1)), CondOT())
    return flow if path is None else flow.with_path(path)


def product():
    factors = [(f64([0.3, 0.7]), f64([-1.0, 1.0]), f64([0.2, 0.4]))] * 2
    return ProductMixtureFlow(factors, torch.eye(2).double(), CondOT())


FLOWS = {
    "mixture": MixtureFlow(MIXTURE, CondOT()),
    "product": product(),
    "network": network(),
    "moved network": network(Cosine()),
    "moved mixture": Reparametrized(MixtureFlow(MIXTURE, CondOT()), Cosine()),
}
CALLS = {name: dict(estimator.variants[0]) for name, estimator in ESTIMATORS.items() if name != "adaptive"}
CALLS |= {"end_to_end": {"steps": 3, "solver": "rk4"}, "lgd": {"samples": 3}, "truncated": {"steps": 3, "keep": 2}}


def quartic(z):
    return (z - 0.5).square().sum(1).square() / 4


def loss_for(name):
    return LOSS if name in ("pigdm", "tmpd", "dtmpd") else quartic


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("name", CALLS)
def test_a_gradient_with_a_graph_has_the_derivative_of_finite_differences(name, flow):
    def gradient(x, **options):
        return ESTIMATORS[name](FLOWS[flow], loss_for(name), x, 0.4, **CALLS[name], **options).gradient

    x, weight, direction = X.clone().requires_grad_(), randn(3, 2, seed=1), randn(3, 2, seed=2)
    with_graph = gradient(x, create_graph=True)
    assert distance(with_graph.detach(), gradient(X)) <= 1e-12
    (found,) = torch.autograd.grad((with_graph * weight).sum(), x)
    h = 1e-5
    moved = (gradient(X + h * direction) - gradient(X - h * direction)) / (2 * h)
    expected = float((moved * weight).sum())
    assert float((found * direction).sum()) == pytest.approx(expected, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("memory", ["store", "checkpoint", "recursive", "reversible"])
def test_every_way_to_save_memory_gives_the_same_second_derivative(memory):
    def rows(**options):
        x = X.clone().requires_grad_()
        found = ESTIMATORS["end_to_end"](network(), LOSS, x, 0.4, steps=8, create_graph=True, **options)
        return torch.autograd.grad(found.gradient[:, 0].sum(), x)[0]

    assert distance(rows(memory=memory), rows()) <= (1e-2 if memory == "reversible" else 1e-12)


def test_value_and_endpoint_have_the_graph_too():
    x = X.clone().requires_grad_()
    found = ESTIMATORS["greedy"](FLOWS["network"], LOSS, x, 0.4, create_graph=True)
    (gradient,) = torch.autograd.grad(found.value.sum(), x)
    assert distance(gradient, found.gradient.detach()) <= 1e-12


@pytest.mark.parametrize(
    ("x", "t", "name", "message"),
    [
        (X, 0.4, "greedy", "x must require a gradient"),
        (X.clone().requires_grad_(), f64(0.4).requires_grad_(), "greedy", "and t must not"),
        (X.clone().requires_grad_(), 0.4, "adaptive", "create_graph must be False for adaptive"),
    ],
)
def test_what_has_no_second_derivative_is_refused(x, t, name, message):
    options = {"tolerance": 0.1} if name == "adaptive" else {}
    with pytest.raises(ValueError, match=message):
        ESTIMATORS[name](FLOWS["mixture"], LOSS, x, t, create_graph=True, **options)


def tracked():
    """States and times that require a gradient, as a leaf, a parameter, and the result of a graph."""
    leaf = X.clone().requires_grad_()
    return [(leaf, 0.4), (torch.nn.Parameter(X.clone()), 0.4), (1 * leaf, 0.4), (X, f64(0.4).requires_grad_())]


@pytest.mark.parametrize("flow", ["mixture", "network"])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_no_estimate_has_a_graph_whatever_requires_a_gradient(name, flow):
    options = {"tolerance": 0.1} if name == "adaptive" else CALLS[name]
    expected = ESTIMATORS[name](FLOWS[flow], LOSS, X, 0.4, **options).gradient
    for x, t in tracked():
        found = ESTIMATORS[name](FLOWS[flow], LOSS, x, t, **options)
        assert not any(part.requires_grad for part in (found.gradient, found.endpoint, found.value))
        assert torch.equal(found.gradient, expected)


def test_nothing_else_that_is_returned_has_a_graph():
    flow = FLOWS["mixture"]
    for x, t in tracked():
        found = [
            lookahead_surface(flow, LOSS, x, t, [2], [1.0]).gradient,
            choices(flow, LOSS, x, t, tolerance=0.1).gradient,
            control_gradients(flow, LOSS, x, t, torch.zeros(2, 3, 2).double(), steps=2).gradient,
            ideal_gradient(flow, LOSS, x, t, tolerance=1e-6, max_error=1e-3).gradient,
            SAMPLERS["posterior_guidance"](flow, LOSS, x, steps=2, scale=0.1).x,
            SAMPLERS["optimise_source"](flow, LOSS, x, iterations=1, learning_rate=0.1, steps=2).x,
        ]
        assert not any(part.requires_grad for part in found)


def test_memory_that_is_saved_stays_saved_for_states_that_require_a_gradient():
    flow, x = network(), randn(200, 2).requires_grad_()
    ESTIMATORS["greedy"](flow, LOSS, x, 0.1)  # the function is looked at once
    peaks = []
    for steps in (10, 40):
        with cost.track_memory():
            options = {"steps": steps, "memory": "recursive", "slots": 2}
            peaks.append(ESTIMATORS["end_to_end"](flow, LOSS, x, 0.1, **options).cost.bytes)
    assert peaks[1] <= 1.1 * peaks[0]
