"""Adaptive lookahead: batches, ends of time, networks, tolerances out of reach, and bad arguments.

A batch is compared with its samples one by one, and a part of memory with the whole; gradients at the ends of time and
of networks with the ideal gradient or the loss gradient there.
"""

import math

import pytest
import torch

from analysis import gradients, losses
from analysis.flow import from_velocity
from analysis.gradients import ESTIMATORS, mesh_solves
from analysis.gradients._adaptive import choices
from analysis.paths import CondOT
from analysis.reference import ideal_gradient
from tests.support.adaptive import LOSS, MIXTURE, PATHS, PER_SAMPLE, problem
from tests.support.problems import distance, f64, randn, relative_l2


@pytest.fixture(params=PATHS)
def path(request):
    return PATHS[request.param]


@pytest.mark.parametrize("tolerance", [0.3, 0.02])
def test_a_sample_does_not_depend_on_its_batch(path, tolerance):
    flow, x = problem(path)
    targets = randn(5, 3, seed=8)
    whole = choices(flow, losses.HalfSquaredDistance(targets), x, PER_SAMPLE, tolerance=tolerance)
    for i in range(5):
        part = slice(i, i + 1)
        loss = losses.HalfSquaredDistance(targets[part])
        one = choices(flow, loss, x[part], float(PER_SAMPLE[i]), tolerance=tolerance)
        assert one.steps.tolist() == whole.steps[part].tolist()
        assert distance(whole.gradient[part], one.gradient) <= 1e-9
        assert distance(whole.endpoint[part], one.endpoint) <= 1e-9


def test_samples_are_solved_in_parts_where_all_do_not_fit(monkeypatch):
    flow, x = problem(CondOT())
    targets = losses.HalfSquaredDistance(randn(5, 3, seed=8))
    whole = choices(flow, targets, x, PER_SAMPLE, tolerance=0.02)
    monkeypatch.setattr(mesh_solves, "LARGEST_TAPE", 1)
    parts = choices(flow, targets, x, PER_SAMPLE, tolerance=0.02)
    assert parts.steps.tolist() == whole.steps.tolist()
    assert distance(parts.gradient, whole.gradient) <= 1e-9
    assert parts.cost.evaluations == whole.cost.evaluations


def test_the_estimator_is_the_choice_and_its_endpoint_belongs_to_its_gradient():
    flow, x = problem(CondOT())
    found = choices(flow, LOSS, x, PER_SAMPLE, tolerance=0.1)
    estimate = ESTIMATORS["adaptive"](flow, LOSS, x, PER_SAMPLE, tolerance=0.1)
    assert torch.equal(estimate.gradient, found.gradient)
    assert torch.equal(estimate.value, LOSS(found.endpoint))
    assert estimate.cost.evaluations == found.cost.evaluations
    fine = choices(flow, LOSS, x, PER_SAMPLE, tolerance=1e-4, max_steps=256)
    truth = ideal_gradient(flow, LOSS, x, PER_SAMPLE)
    assert relative_l2(fine.gradient, truth.gradient).max() < 1e-3
    assert relative_l2(fine.endpoint, truth.endpoint).max() < 1e-2


def test_a_loss_need_not_be_made_for_noisy_states():
    path = PATHS["ve"]  # its states are much longer than any sample of the data
    t = f64([0.05, 0.2, 0.4, 0.97, 0.998])
    flow, x = problem(path, t)
    longest = float(MIXTURE.sample(1000, torch.Generator().manual_seed(0)).norm(dim=1).max())
    assert x.norm(dim=1).max() > 2 * longest

    def loss(y):
        return torch.where(y.norm(dim=1) < 1.5 * longest, LOSS(y), torch.nan)

    found = choices(flow, loss, x, t, tolerance=0.1)
    assert path.zeta(t)[-1] < 0.41 < path.zeta(t)[0]  # greedy is tried for some, and not for others
    assert distance(found.gradient, choices(flow, LOSS, x, t, tolerance=0.1).gradient) == 0


def test_a_sample_that_diverged_does_not_make_the_others_look_diverged():
    states, far, asked = randn(4, 3, seed=9), torch.full((1, 3), 1e12).double(), []

    def loss(y):
        asked.append(y.detach())
        return LOSS(y)

    for part, others in ((far, states[1:]), (torch.full_like(far, math.nan), states[1:]), (far / 1e12, far / 1e12)):
        mesh_solves.rows_value_and_gradient(loss, torch.tensor([0]), part, states)
        assert torch.equal(asked[-1][1:], others.expand(3, 3))


@pytest.mark.parametrize("t", [0.0, 1.0])
def test_ends_of_time(path, t):
    flow, x = problem(path, t)
    found = choices(flow, LOSS, x, t, tolerance=0.05)
    assert torch.isfinite(found.gradient).all()
    if t == 1:
        assert found.steps.tolist() == [0] * 5
        assert distance(found.gradient, losses.value_and_gradient(LOSS, x)[1]) <= 1e-9
        assert (found.error <= 1e-9).all()
    else:
        assert (found.steps > 0).all()
        truth = ideal_gradient(flow, LOSS, x, t)
        assert relative_l2(found.gradient, truth.gradient).median() < 0.05


def test_networks_images_single_precision_and_times_at_the_end():
    convolution = torch.nn.Conv2d(2, 2, 3, padding=1)
    flow = from_velocity(lambda x, t: torch.tanh(convolution(x)) * t[:, None, None, None], CondOT())
    x, loss = randn(3, 2, 4, 5).float(), losses.HalfSquaredDistance(torch.ones(2, 4, 5))
    t = f64([0.2, 0.6, 1.0])
    found = choices(flow, loss, x, t, tolerance=0.02)
    assert (found.gradient.shape, found.gradient.dtype) == (x.shape, torch.float32)
    assert distance(found.gradient[2:], losses.value_and_gradient(loss, x)[1][2:]) <= 1e-5
    truth = gradients.end_to_end(flow, loss, x, t, steps=64, solver="midpoint").gradient
    assert relative_l2(found.gradient, truth).max() < 0.05
    assert not any(p.grad is not None for p in convolution.parameters())


def test_where_it_cannot_keep_its_tolerance_it_says_so():
    flow, x = problem(CondOT())
    found = choices(flow, LOSS, x, PER_SAMPLE, tolerance=1e-12, max_steps=5)
    assert found.steps.tolist() == [5] * 5
    assert (found.error > 1e-12).all()
    flat = choices(flow, lambda x: 0 * LOSS(x), x, PER_SAMPLE, tolerance=0.1)
    assert (flat.gradient == 0).all()
    assert (flat.error == 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tolerance": 0}, "tolerance must be positive and finite, got 0"),
        ({"tolerance": -0.1}, "tolerance must be positive and finite, got -0.1"),
        ({"tolerance": math.nan}, "tolerance must be positive and finite, got nan"),
        ({"tolerance": math.inf}, "tolerance must be positive and finite, got inf"),
        ({"max_steps": 0}, "max_steps must be an integer of at least 1, got 0"),
        ({"max_steps": 2.5}, "max_steps must be an integer of at least 1, got 2.5"),
        ({"t": 1.5}, r"t must lie in \[0, 1\]"),
        ({"x": randn(5, 4)}, r"x must have shape \(B, 3\)"),
        ({"loss": lambda x: x}, "loss must return one value per sample"),
    ],
)
def test_bad_input_is_refused(change, message):
    flow, x = problem(CondOT())
    arguments = {"loss": LOSS, "x": x, "t": 0.3, "tolerance": 0.1} | change
    for call in (choices, ESTIMATORS["adaptive"]):
        with pytest.raises(ValueError, match=message):
            call(flow, **arguments)


def test_greedy_is_corrected_by_what_is_left_of_the_way_where_a_path_ends_with_noise():
    # On this path zeta ends at 0.11. The leading term is half of the way only where it ends at 0; a correction by one
    # half would here be worse than none, close to the end.
    path = PATHS["user"]
    t = path.time_from_zeta(f64([0.125, 0.14, 0.16, 0.18, 0.2]))
    flow, x = problem(path, t)
    truth = ideal_gradient(flow, LOSS, x, t).gradient
    corrected = choices(flow, LOSS, x, t, tolerance=0.3)
    assert corrected.steps.tolist() == [0] * 5
    plain = gradients.end_to_end(flow, LOSS, x, t, steps=1, solver="ddim").gradient
    gain = relative_l2(corrected.gradient, truth) / relative_l2(plain, truth)
    assert gain.max() < 0.5
