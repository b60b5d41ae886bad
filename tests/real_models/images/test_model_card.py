"""The model card: distances that would show a copy, and the rounds of training.

The truths are images whose nearest neighbour and distance are known because the test made them, and the records beside
the committed weights.
"""

import json

import pytest
import torch

from real_models.images import NETWORKS, WEIGHTS, model_card


def test_a_copy_has_no_distance_and_names_its_original():
    training = torch.randn(6, 784, generator=torch.Generator().manual_seed(0))
    distances, which = model_card.neighbours(training[[4, 2]] + torch.tensor([[0.0], [0.1]]), training)
    assert which.tolist() == [4, 2]
    assert distances[0] < 1e-2
    assert distances[1] == pytest.approx(0.1 * 28, rel=1e-3)


def test_the_same_seed_draws_the_same_samples():
    x = model_card.draw("mnist", 3, seed=1, chunk=2)
    assert torch.equal(x, model_card.draw("mnist", 3, seed=1, chunk=2))
    assert x.shape == (3, 784)
    assert x.min() >= -1
    assert x.max() <= 1


@pytest.mark.parametrize("name", NETWORKS)
def test_the_committed_card_is_that_of_the_record(name):
    about = json.loads((WEIGHTS / f"{name}.json").read_text())
    assert (WEIGHTS / f"{name}.md").read_text() == model_card.text(name, about)


@pytest.mark.parametrize("name", NETWORKS)
def test_samples_are_no_copies(name):
    about = json.loads((WEIGHTS / f"{name}.json").read_text())
    samples, unseen = (about[key]["nearest_training_image"] for key in ("samples", "held_out"))
    assert all(samples[quantile] >= 0.8 * unseen[quantile] for quantile in ("0", "0.05", "0.5"))
