"""Ideal gradients along trajectories: the truth is the reference of a mixture, which integrates in another way."""

import pytest
import torch

from analysis import losses, reference
from analysis.converged import converged_gradients
from analysis.errors import relative_error
from analysis.flow import from_velocity
from analysis.paths import CondOT, LinearVP
from tests.support.problems import randn
from toy_models.problems.zoo import build

D, TIMES = 6, (0.2, 0.5, 0.9)


def smooth_flow():
    weights = torch.randn(D, D, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    return from_velocity(lambda x, t: torch.tanh((x + t[:, None]) @ weights), CondOT())


@pytest.mark.parametrize("path", [CondOT(), LinearVP()])
def test_gradients_along_a_trajectory_are_the_ideal_ones_within_their_bound(path):
    flow, x = build("product256", path), randn(3, 8)
    loss = losses.HalfSquaredDistance(randn(3, 8, seed=1))
    solved = converged_gradients(flow, loss, x, TIMES, steps=48)
    assert solved.states.shape == (3, 3, 8)
    torch.testing.assert_close(solved.states[0], x)
    for t, state, part in zip(TIMES, solved.states, solved.references, strict=True):
        truth = reference.ideal_gradient(flow, loss, state, t)
        assert part.tier == "converged"
        assert part.gradient.shape == (3, 8)
        assert (relative_error(part.gradient, truth.gradient) <= part.error_bound + truth.error_bound).all()
        assert 0 < part.error_bound.max() < 1e-3
        torch.testing.assert_close(part.endpoint, truth.endpoint, rtol=1e-4, atol=1e-4)


def test_the_bound_falls_at_the_order_of_the_solve():
    flow, x, loss = smooth_flow(), randn(3, D), losses.Linear(torch.ones(D))
    coarse, fine = (converged_gradients(flow, loss, x, (0.1,), steps=n).references[0] for n in (16, 32))
    assert (coarse.error_bound / fine.error_bound > 2**3.5).all()


@pytest.mark.parametrize(
    ("times", "steps", "message"),
    [((0.5, 0.2), 8, "times must increase"), ((0.5, 1.0), 8, "times must increase"), ((0.5,), 1, "at least 2")],
)
def test_bad_times_and_steps_are_refused(times, steps, message):
    with pytest.raises(ValueError, match=message):
        converged_gradients(smooth_flow(), losses.Linear(torch.ones(D)), randn(2, D), times, steps=steps)
