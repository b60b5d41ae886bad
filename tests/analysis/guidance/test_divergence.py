"""What counts as a divergence, sample by sample: bounds and losses whose overflow is made by hand."""

import math

import pytest
import torch

from analysis.flow import from_velocity
from analysis.guidance import SAMPLERS
from analysis.guidance.registry import DivergenceMonitor
from analysis.losses import HalfSquaredDistance
from analysis.paths import CondOT
from tests.support.problems import f64

X = f64([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
FAR = f64([1.0, 1e9, 1.0])[:, None] * X
LOSS = HalfSquaredDistance(torch.zeros(3).double())


def monitor():
    return DivergenceMonitor(X, 10.0)


def test_a_loss_taken_out_of_bounds_fails_its_sample_though_its_state_is_within():
    watch = monitor()
    value = watch.guard_loss(LOSS)(FAR)
    assert value.tolist() == [0.5, 0.0, 0.5]  # taken at the origin for the second
    assert torch.equal(watch.accept(X + 1, X, 3), torch.stack([X[0] + 1, X[1], X[2] + 1]))
    assert watch.failed_at.tolist() == [-1, 3, -1]


def test_a_loss_that_overflows_within_bounds_fails_its_sample():
    watch = monitor()
    loss = watch.guard_loss(lambda x: torch.where(x[:, 2] > 0, math.inf, LOSS(x)))
    assert loss(X).tolist() == [0.5, 0.5, 0.0]
    watch.accept(X, X, 0)
    assert watch.failed_at.tolist() == [-1, -1, 0]


@pytest.mark.parametrize("bad", [1e9, math.inf, math.nan])
def test_a_sample_that_diverged_stays_where_it_was_and_says_when(bad):
    watch = monitor()
    scale = f64([1.0, bad, 1.0])[:, None]
    second = watch.accept(2 * scale * X, 2 * X, 4)
    assert torch.equal(second, 2 * X)
    third = watch.accept(3 * X, second, 5)  # back within bounds, too late
    assert torch.equal(third, f64([3.0, 2.0, 3.0])[:, None] * X)
    assert watch.failed_at.tolist() == [-1, 4, -1]


def test_the_last_iterate_is_taken_where_it_is_within_bounds():
    watch = monitor()
    watch.accept(FAR, X, 1)
    assert torch.equal(watch.accept_final(2 * X, X, 9), 2 * X)
    assert torch.equal(watch.accept_final(FAR, X, 9), torch.stack([FAR[0], X[1], FAR[2]]))
    assert watch.failed_at.tolist() == [-1, 1, -1]


def test_a_value_that_overflows_at_the_end_is_infinite_and_not_that_of_the_origin():
    flow = from_velocity(lambda x, t: 0 * x, CondOT())
    unbounded = SAMPLERS["posterior_guidance"](
        flow, lambda x: torch.where(x[:, 1] > 0, math.inf, LOSS(x)), X, steps=2, scale=0.0
    )
    assert unbounded.value.tolist() == [0.5, math.inf, 0.5]


@pytest.mark.parametrize("sampler", ["posterior_guidance", "optimise_steps", "optimise_source", "optimise_controls"])
def test_a_loss_that_is_nan_for_one_sample_fails_that_sample_alone(sampler):
    options = {
        "posterior_guidance": {"steps": 2, "scale": 0.1, "rule": "constant"},
        "optimise_steps": {"steps": 2, "learning_rate": 0.1},
        "optimise_source": {"iterations": 2, "learning_rate": 0.1, "steps": 2},
        "optimise_controls": {"iterations": 2, "learning_rate": 0.1, "intervals": 2, "steps": 1},
    }[sampler]
    flow = from_velocity(lambda x, t: 0.1 * torch.tanh(x), CondOT())
    loss = HalfSquaredDistance(torch.zeros(3, dtype=torch.float64))
    x0 = f64([[1.0, 2.0, 0.5], [1.0, -2.0, 0.5], [0.3, 0.2, 0.1], [0.4, 0.5, 0.6]])
    found = SAMPLERS[sampler](flow, lambda x: torch.where(x[:, 1] < -1, math.nan, loss(x)), x0, **options)
    alone = SAMPLERS[sampler](flow, lambda x: loss(x), x0[[0, 2, 3]], **options)
    assert found.failed.tolist() == [False, True, False, False]
    assert torch.allclose(found.x[[0, 2, 3]], alone.x, atol=1e-14)
    assert found.value[1] == math.inf
    with pytest.raises(ValueError, match="loss value must be finite"):
        SAMPLERS[sampler](flow, lambda x: math.nan * loss(x), x0, **options)
