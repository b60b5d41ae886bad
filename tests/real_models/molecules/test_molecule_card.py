"""The model cards.

Truths: records written here by hand, and molecules whose stability is known.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

from real_models.molecules import card, data
from real_models.molecules.flow import encode

WATER = np.array([[0.0, 0, 0], [0.9572, 0, 0], [-0.24, 0.9266, 0]])
INTERVAL = {"mean": 0.512, "low": 0.5, "high": 0.53}


def test_the_picture_frames_broken_molecules_in_red():
    whole, broken = encode(["O", "H", "H"], WATER), encode(["O", "H", "H"], 3 * WATER)
    figure = card.picture({3: torch.cat([whole, broken, whole])})
    colours = [ax.spines["left"].get_edgecolor() for ax in figure.axes[:3]]
    assert sum(colour == plt.matplotlib.colors.to_rgba("tab:red") for colour in colours) == 1
    assert len(figure.axes) == card.COLUMNS
    plt.close(figure)


PLAN = {"bfloat16": False, "learning_rate": 0.0015, "device": "cuda"}


def test_the_card_of_the_flow_states_shares_with_intervals():
    shares = dict.fromkeys(card.SHARES, (0.5, 0.4, 0.6))
    samples = {"count": 7, "steps": 9, "solver": "midpoint", "shares": shares, "data": shares}
    about = {"parameters": 1234, "steps_done": 5, "batch": 6, "device": "chip", "threads": 1, "seconds": 88}
    about |= {"held_out": 3, "held_out_loss": INTERVAL, "split": {"flow": 50}, "plan": PLAN}
    text = card.text(about | {"samples": samples, "note": "Half way."})
    for part in (
        "1,234 parameters",
        "| stable atoms | 50.0% [40.0%, 60.0%] |",
        "7 samples (midpoint, 9 steps)",
        "Half way.",
        "train flow --seconds 88 --batch 6 --device cuda --float32\n",
    ):
        assert part in text
    assert "{" not in text


def test_the_card_of_the_predictors_states_both_errors():
    about = {"parameters": 1234, "steps_done": 5, "batch": 6, "device": "chip", "seconds": 88, "held_out": 3}
    about |= {"mae": dict.fromkeys(data.PROPERTIES, INTERVAL), "split": {"flow": 50, "evaluator": 51}}
    about["plan"] = PLAN | {"device": "cpu", "bfloat16": True}
    text = card.predictors_text({"guide": about | {"half": "flow"}, "evaluator": about | {"half": "evaluator"}})
    assert "| gap, meV | 0.512 [0.500, 0.530] | 0.512 [0.500, 0.530] | 64 |" in text
    assert "| molecules | 50 | 51 |" in text
    assert "train guide --seconds 88 --batch 6\n" in text
    assert "{" not in text
