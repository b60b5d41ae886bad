"""The lookahead surface: all cells at once against the lookahead estimator, one cell at a time.

``lookahead`` solves each cell by itself, without the batch of cells that is tested here, and has truths of its own
(``test_gradients``); the cost is counted by hand.
"""

import pytest
import torch

from analysis import gradients
from analysis.errors import relative_error
from analysis.experiment import estimate, measure_cell, sample_states
from analysis.flow import from_velocity
from analysis.losses import HalfSquaredDistance
from analysis.settings import Options, Variant
from toy_models.experiments import lookahead_surface as surface_experiment
from toy_models.problems import zoo

STEPS, HORIZONS = [1, 2, 5], [0.3, 0.5, 0.8, 1.0]


@pytest.fixture(params=["overlapping", "product256", "network"])
def variant(request):
    name = request.param
    subject = zoo.subject("overlapping" if name == "network" else name, "condot")
    generator = torch.Generator().manual_seed(0)
    x = subject.states(torch.tensor([0.3], dtype=torch.float64), 7, generator)
    flow = subject.flow
    if name == "network":
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 5)).double()
        flow = from_velocity(lambda x, t: net(torch.cat([x, t[:, None]], 1)), flow.path)
    return flow, subject.loss(1, 7, generator), x  # the loss holds one target per sample


@pytest.mark.parametrize("solver", ["euler", "rk4", "ddim", "ab2"])
@pytest.mark.parametrize("per_sample", [False, True])
def test_every_cell_is_the_lookahead_of_that_cell(variant, solver, per_sample):
    flow, loss, x = variant
    t = torch.linspace(0.1, 0.3, 7, dtype=torch.float64) if per_sample else 0.3
    surface = gradients.lookahead_surface(flow, loss, x, t, STEPS, HORIZONS, solver=solver)
    assert surface.gradient.shape == (3, 4, *x.shape)
    for i, n in enumerate(STEPS):
        for j, s in enumerate(HORIZONS):
            cell = gradients.lookahead(flow, loss, x, t, steps=n, horizon=s, solver=solver)
            for name in ("gradient", "endpoint", "value"):
                found, expected = getattr(surface, name)[i, j], getattr(cell, name)
                assert (found - expected).norm() <= 1e-12 * expected.norm()


def test_the_horizon_at_t_is_greedy_whatever_the_steps(variant):
    flow, loss, x = variant
    surface = gradients.lookahead_surface(flow, loss, x, 0.3, STEPS, HORIZONS)
    greedy = gradients.greedy(flow, loss, x, 0.3).gradient
    assert all((cell - greedy).norm() <= 1e-14 * greedy.norm() for cell in surface.gradient[:, 0])


def test_the_cost_counts_each_cell_once(variant):
    flow, loss, x = variant
    surface = gradients.lookahead_surface(flow, loss, x, 0.3, STEPS, HORIZONS)
    solves, projections = 3 * sum(STEPS), 2 * len(STEPS) + 1  # greedy is shared, the end needs no projection
    assert surface.cost.evaluations == surface.cost.vjps == solves + projections


@pytest.mark.parametrize(
    ("steps", "horizons", "message"),
    [([0], [0.5], "steps"), ([1], [0.2], "horizon"), ([1], [1.2], "horizon"), ([1.5], [0.5], "steps")],
)
def test_bad_cells_are_refused(variant, steps, horizons, message):
    flow, loss, x = variant
    with pytest.raises(ValueError, match=message):
        gradients.lookahead_surface(flow, loss, x, 0.3, steps, horizons)


def test_an_unknown_solver_is_refused():
    subject = zoo.subject("gaussian", "condot")
    x = torch.zeros(2, 6, dtype=torch.float64)
    with pytest.raises(ValueError, match="solver must be one of ab2"):
        gradients.lookahead_surface(subject.flow, HalfSquaredDistance(x[0]), x, 0.3, [1], [0.5], solver="nothing")


def test_the_sweep_of_the_main_job_is_made_of_the_same_cells():
    (cell,) = surface_experiment.cells(Options(quick=True))
    table = measure_cell(cell)
    row = table[(table["solver"] == "midpoint") & (table["steps"] == 4) & (table["fraction"] == 0.5)]
    row = row[row["metric"] == "relative_error"]
    batch = sample_states(cell)
    variant = Variant.of("lookahead", solver="midpoint", steps=4, horizon_fraction=0.5)
    found = estimate(cell, batch, variant)
    errors = relative_error(found.gradient, batch.reference.gradient)
    assert row["value"].item() == pytest.approx(float(errors.quantile(0.5)), rel=1e-10)
    assert row["evaluations"].item() == found.cost.evaluations == 9
