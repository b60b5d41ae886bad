"""Regimes of guidance (per-step, source and control optimisation) against the same loops written by hand."""

import math

import pytest
import torch

from analysis import gradients, solvers
from analysis.guidance import SAMPLERS
from analysis.guidance.optimisers import optimiser
from analysis.guidance.tuning import Range, trials
from analysis.losses import value_and_gradient
from analysis.paths import CondOT
from tests.support.guidance import LOSS, MIXTURE, X0
from tests.support.problems import distance, f64, randn
from toy_models import MixtureFlow

FLOW = MixtureFlow(MIXTURE, CondOT())


def solved(x, start, end, steps):
    return solvers.solve(FLOW, x, solvers.plan("ddim", FLOW.path, solvers.uniform_grid(f64(start), f64(end), steps)))


@pytest.mark.parametrize("schedule", ["constant", "sigma"])
def test_per_step_optimisation_moves_then_solves(schedule):
    found = SAMPLERS["optimise_steps"](
        FLOW, LOSS, X0, steps=4, inner=3, learning_rate=0.1, gradient="midpoint", schedule=schedule
    )
    x, grid = X0, [0, 0.25, 0.5, 0.75, 1]
    for i in range(4):
        t = f64(grid[i]) if i else solvers_moment()
        rate = 0.1 if schedule == "constant" else 0.1 * (1 - grid[i])
        y = torch.nn.Parameter(x.clone())
        adam = torch.optim.Adam([y], lr=rate)
        for _ in range(3):
            y.grad = gradients.end_to_end(FLOW, LOSS, y.detach(), t, steps=1, solver="midpoint").gradient
            adam.step()
        x = solved(y.detach(), grid[i], grid[i + 1], 1)
    assert distance(found.x, x) <= 1e-9
    assert (found.cost.evaluations, found.cost.vjps) == (4 * (3 * 2 + 1), 4 * 3 * 2)


def solvers_moment():
    """The first moment at which greedy's gradient is known, where alpha is 0."""
    from analysis.guidance.likelihood import informed_time

    return informed_time(FLOW.path, f64(0.0), torch.float64)


def test_normalised_moves_have_the_rate_as_root_mean_square_and_no_gradient_no_move():
    update, g = optimiser("normalised", X0, 0.3), randn(6, 3, seed=5)
    g[2] = 0.0
    moved = update(X0, g) - X0
    lengths = moved.square().mean(1).sqrt()
    assert lengths[2] == 0
    assert lengths[[0, 1, 3, 4, 5]].sub(0.3).abs().max() < 1e-12
    assert distance(moved[0] / moved[0].norm(), -g[0] / g[0].norm()) < 1e-12


def test_the_prior_of_the_source_pulls_as_its_density_does():
    options = {"iterations": 3, "learning_rate": 0.05, "optimiser": "sgd", "gradient": "midpoint", "steps": 4}
    found = SAMPLERS["optimise_source"](FLOW, LOSS, X0, prior=0.7, **options)
    x = X0
    for _ in range(3):
        x = x - 0.05 * (gradients.end_to_end(FLOW, LOSS, x, 0.0, steps=1, solver="midpoint").gradient + 0.7 * x)
    assert distance(found.x, solved(x, 0.0, 1.0, 4)) <= 1e-12


def test_a_warm_start_optimises_the_state_that_the_noise_turns_into():
    options = {"iterations": 2, "learning_rate": 0.05, "optimiser": "sgd", "gradient": "greedy", "t": 0.4, "steps": 3}
    warm = SAMPLERS["optimise_source"](FLOW, LOSS, X0, warm=5, **options)
    cold = SAMPLERS["optimise_source"](FLOW, LOSS, solved(X0, 0.0, 0.4, 5), **options)
    assert distance(warm.x, cold.x) <= 1e-12
    assert warm.cost.evaluations == cold.cost.evaluations + 5


def test_a_sample_whose_loss_is_low_enough_stops_alone():
    options = {"learning_rate": 0.05, "optimiser": "sgd", "gradient": "end_to_end", "steps": 8}
    values = LOSS(gradients.end_to_end(FLOW, LOSS, X0, 0.0, steps=32).endpoint)
    stop = float(values.median())
    found = SAMPLERS["optimise_source"](FLOW, LOSS, X0, iterations=1, stop=stop, **options).x
    free = SAMPLERS["optimise_source"](FLOW, LOSS, X0, iterations=1, **options).x
    still, stays = solved(X0, 0.0, 1.0, 8), values <= stop
    assert 0 < stays.sum() < len(X0)
    assert distance(found[stays], still[stays]) <= 1e-12
    assert distance(found[~stays], free[~stays]) <= 1e-12
    assert (distance(free[stays], still[stays])) > 1e-6


def test_the_end_may_be_the_estimators_own():
    options = {"iterations": 2, "learning_rate": 0.05, "optimiser": "sgd", "gradient": "two_step_euler", "steps": 16}
    own = SAMPLERS["optimise_source"](FLOW, LOSS, X0, end="own", **options).x
    x = X0
    for _ in range(2):
        x = x - 0.05 * gradients.end_to_end(FLOW, LOSS, x, 0.0, steps=2, solver="euler").gradient
    expected = gradients.end_to_end(FLOW, LOSS, x, 0.0, steps=2, solver="euler").endpoint
    assert distance(own, expected) <= 1e-12
    assert distance(own, SAMPLERS["optimise_source"](FLOW, LOSS, X0, **options).x) > 1e-3


def test_controls_follow_an_estimators_gradient_at_the_ends_of_their_intervals():
    found = SAMPLERS["optimise_controls"](
        FLOW, LOSS, X0, iterations=2, learning_rate=0.1, intervals=2, steps=1, gradient="greedy"
    )
    z = torch.zeros(2, 6, 3).double()

    def step(x, t, z):
        return x + 0.5 * (FLOW.velocity(x, f64(t)) + z)

    for _ in range(2):
        middle = step(X0, 0.0, z[0])
        end = step(middle, 0.5, z[1])
        first = gradients.greedy(FLOW, LOSS, middle, 0.5).gradient
        z = z - 0.1 * torch.stack([first, value_and_gradient(LOSS, end)[1]])
    assert distance(found.x, step(step(X0, 0.0, z[0]), 0.5, z[1])) <= 1e-12


def test_a_fine_estimator_moves_controls_as_the_adjoint_does():
    options = {"iterations": 1, "learning_rate": 1e-3, "intervals": 64, "steps": 1, "solver": "rk4"}
    free = SAMPLERS["optimise_controls"](FLOW, LOSS, X0, **{**options, "learning_rate": 1e-12}).x
    by_adjoint = SAMPLERS["optimise_controls"](FLOW, LOSS, X0, **options).x - free
    fine = ("end_to_end", {"steps": 16, "solver": "rk4"})
    by_estimator = SAMPLERS["optimise_controls"](FLOW, LOSS, X0, gradient=fine, **options).x - free
    assert distance(by_estimator, by_adjoint) < 0.05  # one is the adjoint at an interval's end, one its mean


def test_trials_fill_the_ranges_and_repeat():
    space = {"rate": Range(0.01, 100.0), "inner": (1, 2, 4)}
    made = trials(space, 60, seed=3)
    logs = sorted(math.log10(one["rate"]) for one in made)
    assert all(sum(k <= x < k + 1 for x in logs) in range(13, 18) for k in (-2, -1, 0, 1))
    assert all(sum(one["inner"] == k for one in made) in range(17, 24) for k in (1, 2, 4))
    assert made == trials(space, 60, seed=3) != trials(space, 60, seed=4)


def test_an_end_of_a_range_is_told():
    assert [Range(1.0, 100.0).near_end(v) for v in (1.1, 2.0, 10.0, 60.0, 90.0)] == [True, False, False, False, True]


REFUSED = [
    ("optimise_source", {"prior": -1.0}, "prior must be at least 0 and finite, got -1.0"),
    ("optimise_source", {"stop": "low"}, "stop must be"),
    ("optimise_source", {"end": "fine"}, "end must be one of own, solve; got 'fine'"),
    ("optimise_source", {"warm": 4}, "warm needs a time t after 0"),
    ("optimise_source", {"warm": -4, "t": 0.5}, "warm must be"),
    ("optimise_steps", {"inner": 0}, "inner must be"),
    ("optimise_steps", {"schedule": "cosine"}, "schedule must be one of constant, sigma; got 'cosine'"),
    ("optimise_steps", {"optimiser": "newton"}, "optimiser must be one of .*; got 'newton'"),
    ("optimise_controls", {"gradient": "greedy", "tolerance": 0.1}, "tolerance shortens the adjoint"),
    ("optimise_controls", {"gradient": "shooting"}, "gradient must be one of .*; got 'shooting'"),
]
NEEDED = {"optimise_source": {"iterations": 1}, "optimise_controls": {"iterations": 1}, "optimise_steps": {"steps": 2}}


@pytest.mark.parametrize(("sampler", "options", "message"), REFUSED)
def test_an_option_that_is_not_allowed_is_refused(sampler, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        SAMPLERS[sampler](FLOW, LOSS, X0, learning_rate=0.1, **NEEDED[sampler], **options)
