"""Batches that do not fit into memory.

The truth is the gradient of the whole batch, computed at once. Memory runs out in a function of this file, at a batch
size that the test chooses, so the parts and the warnings are known.
"""

import warnings
from dataclasses import replace

import pytest
import torch

from analysis import batching, losses, paths
from analysis.cost import Cost
from analysis.flow import from_velocity
from tests.support.networks import SIDE, Network
from tests.support.problems import f64, randn

LOSS = losses.HalfSquaredDistance(f64([0.0] * SIDE**2))


class Full(torch.nn.Module):
    """A network that fits ``room`` samples into memory; what it does beyond is the caller's choice."""

    def __init__(self, room, overflow):
        super().__init__()
        self.network, self.room, self.overflow = Network().double(), room, overflow

    def forward(self, x, t):
        if len(x) > self.room:
            self.overflow()
        return self.network(x, t)


def raises():
    raise torch.OutOfMemoryError("CUDA out of memory.")


def allocates():
    torch.empty(2**60)


def in_parts(room, loss, overflow=raises, t=0.3):
    flow = from_velocity(Full(room, overflow), paths.CondOT())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = batching.estimate("end_to_end", flow, loss, randn(7, SIDE**2), t, steps=2)
    return found, [str(w.message) for w in caught]


class Own:
    """A loss with a target for each sample that is none of the library's own."""

    def __call__(self, x):
        return (x - randn(7, SIDE**2, seed=3)).square().square().sum(1)


@pytest.mark.parametrize("overflow", [raises, allocates])
@pytest.mark.parametrize(
    "loss",
    [
        LOSS,
        losses.HalfSquaredDistance(randn(7, SIDE**2, seed=2)),
        losses.HalfSquaredResidual(randn(3, SIDE**2), randn(7, 3, seed=5), 0.5),
        Own(),
    ],
)
def test_halved_batches_give_the_same_gradients(loss, overflow):
    t = torch.linspace(0.1, 0.7, 7, dtype=torch.float64)
    whole, silent = in_parts(7, loss, overflow, t)
    halved, notices = in_parts(2, loss, overflow, t)
    assert silent == []
    assert [text.split(":")[0] for text in notices] == [f"out of memory with a batch of {n}" for n in (7, 3)]
    for name in ("gradient", "endpoint", "value"):
        a, b = getattr(whole, name), getattr(halved, name)
        assert (a - b).abs().max() <= 1e-13 * a.abs().max(), name
    assert halved.cost.evaluations == whole.cost.evaluations == 2
    assert halved.cost.vjps == whole.cost.vjps == 2


def test_what_does_not_fit_alone_is_refused():
    with pytest.raises(MemoryError, match="one sample does not fit into memory"):
        in_parts(0, LOSS)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def fails():
        raise RuntimeError("shapes do not agree")

    with pytest.raises(ValueError, match="shapes do not agree"):
        in_parts(3, LOSS, fails)


def test_costs_of_parts_add_up():
    parts = [Cost(2.0, 1.0, 0.5, 100), Cost(5.0, 4.0, 0.25, 300)]
    assert batching.total(parts, [2, 1]) == Cost(3.0, 2.0, 0.75, 300)
    assert batching.total([replace(part, bytes=None) for part in parts], [2, 1]).bytes is None


def test_bad_choices_are_named():
    with pytest.raises(ValueError, match="first must be an integer of at least 1"):
        batching.in_parts(lambda part: part, 4, first=0)
    with pytest.raises(ValueError, match="estimator must be one of"):
        batching.estimate("no", None, LOSS, None, 0.3)
