"""What a user's function returns or raises, by every public way to ask it: one message that names the function."""

import math

import pytest
import torch

from analysis import flow, losses, paths
from analysis.gradients import ESTIMATORS, lookahead_surface
from analysis.guidance import sample
from analysis.reference import ideal_gradient
from tests.support.problems import randn

X, LOSS = randn(5, 3), losses.HalfSquaredDistance(torch.zeros(3).double())
MAKERS = (flow.from_velocity, flow.from_denoiser, flow.from_noise_predictor)
ASKED = {
    "velocity": lambda made: made.velocity(X, 0.3),
    "greedy": lambda made: ESTIMATORS["greedy"](made, LOSS, X, 0.3),
    "along another path": lambda made: ESTIMATORS["greedy"](made.with_path(paths.Cosine()), LOSS, X, 0.3),
    "end_to_end": lambda made: ESTIMATORS["end_to_end"](made, LOSS, X, 0.3, steps=2),
    "surface": lambda made: lookahead_surface(made, LOSS, X, 0.3, [1], [0.6]),
    "ideal_gradient": lambda made: ideal_gradient(made, LOSS, X, 0.3),
    "sample": lambda made: sample(made, X, steps=2),
    "sample with a loss": lambda made: sample(made, X, LOSS, steps=2),
}
RETURNED = {"tuple": lambda x, t: (x, t), "dict": lambda x, t: {"sample": x}, "NoneType": lambda x, t: None}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("kind", RETURNED)
@pytest.mark.parametrize("maker", MAKERS)
def test_a_result_that_is_no_tensor_is_named(maker, kind, asked):
    expected = rf"^function must return a tensor like x, \(5, 3\) torch.float64; got {kind}: wrap it"
    with pytest.raises(ValueError, match=expected):
        ASKED[asked](maker(RETURNED[kind], paths.CondOT()))


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize(
    "function", [lambda x, t: x * float(t), lambda x, t: x * math.sin(t), lambda x, t: x * t.item()]
)
def test_a_function_of_one_time_alone_is_told_what_it_was_given(function, asked):
    expected = r"^function must take x \(5, 3\) torch.float64 and t \(5,\) .*, and raises .*adapters.module.flow$"
    with pytest.raises(ValueError, match=expected):
        ASKED[asked](flow.from_velocity(function, paths.CondOT()))


def test_what_is_refused_already_keeps_its_words():
    with pytest.raises(ValueError, match=r"^function must return a tensor like x, .* got"):
        flow.from_velocity(lambda x, t: x.float(), paths.CondOT()).velocity(X, 0.3)
    with pytest.raises(ValueError, match=r"^function must be differentiable"):
        ASKED["greedy"](flow.from_velocity(lambda x, t: torch.ones_like(x), paths.CondOT()))
