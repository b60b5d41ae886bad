"""Every estimator on states that are not on the CPU, by a device that every machine has and whose numbers are known."""

import pytest
import torch

from analysis import gradients, losses, reference
from analysis.flow import from_velocity
from analysis.gradients._adaptive import choices
from analysis.gradients._control import control_gradients
from analysis.paths import CondOT
from analysis.solvers import checkpointing
from tests.support.devices import AWAY, away
from tests.support.problems import f64, randn

X, TIMES = randn(5, 3), f64([0.1, 0.2, 0.3, 0.4, 0.5])
LOSS = losses.HalfSquaredResidual(randn(2, 3), randn(5, 2), 0.5)
WEIGHTS = randn(3, 4) / 2


def velocity(x, t):
    return torch.tanh(torch.cat([x, t[:, None]], 1) @ WEIGHTS.to(x.device).T)


FLOW = from_velocity(velocity, CondOT())


def same(call, t):
    """Whether ``call(x, t)`` gives on ``AWAY`` the bits that it gives on the CPU, and leaves them there."""
    expected = call(X, t)
    with away():
        found = call(X.to(AWAY), t.to(AWAY) if isinstance(t, torch.Tensor) else t)
        assert found.device == AWAY
        return torch.equal(found.cpu(), expected)


def test_the_device_refuses_tensors_of_the_cpu():
    with away():
        x = X.to(AWAY)
        for mixed in (lambda: x + X, lambda: torch.cat([x, X]), lambda: X[x[:, 0] > 0]):
            with pytest.raises(RuntimeError, match="same device"):
                mixed()
        assert torch.equal((x * f64(2.0)).cpu(), 2 * X)


@pytest.mark.parametrize("t", [0.3, TIMES], ids=["one time", "a time each"])
@pytest.mark.parametrize("name", sorted(gradients.ESTIMATORS))
def test_estimators(name, t):
    estimator = gradients.ESTIMATORS[name]
    options = dict(next(iter(estimator.variants), {}))
    assert same(lambda x, t: estimator(FLOW, LOSS, x, t, **options).gradient, t)


@pytest.mark.parametrize("t", [0.3, TIMES], ids=["one time", "a time each"])
@pytest.mark.parametrize("way", checkpointing.STRATEGIES)
def test_ways_to_save_memory(way, t):
    slots = {"slots": 2} if way == "recursive" else {}
    assert same(lambda x, t: gradients.end_to_end(FLOW, LOSS, x, t, steps=3, memory=way, **slots).gradient, t)


@pytest.mark.parametrize("solver", ["ddim", "ab2", "rk4_zeta"])
@pytest.mark.parametrize("grid", ["t", "zeta"])
def test_solvers_and_grids(solver, grid):
    options = {"steps": 3, "horizon": 0.9, "solver": solver, "grid": grid}
    assert same(lambda x, t: gradients.lookahead(FLOW, LOSS, x, t, **options).gradient, TIMES)


@pytest.mark.parametrize("t", [0.3, TIMES], ids=["one time", "a time each"])
def test_everything_else_that_differentiates(t):
    surface = {"steps": [1, 2], "horizons": [0.5, 0.7, 1.0]}
    assert same(lambda x, t: gradients.lookahead_surface(FLOW, LOSS, x, t, **surface).gradient, t)
    assert same(lambda x, t: choices(FLOW, LOSS, x, t, tolerance=0.05, max_steps=4).error, t)
    for tolerance in (0.0, 0.1):
        options = {"steps": 2, "tolerance": tolerance}
        assert same(lambda x, t: control_gradients(FLOW, LOSS, x, t, x[None], **options).gradient, t)  # noqa: B023


def test_the_reference(monkeypatch):
    monkeypatch.setattr(reference, "MAX_STEP", 1.0)
    options = {"tolerance": 9e-4, "max_error": 1.0}
    assert same(lambda x, t: reference.ideal_gradient(FLOW, LOSS, x, t, **options).gradient, 0.8)
