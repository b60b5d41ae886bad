"""Problems on which adaptive lookahead is tested."""

import functools
import math

import torch

from analysis import losses
from analysis.paths import CondOT, Cosine, LinearVP
from analysis.reference import ideal_gradient
from tests.support.problems import every_path, f64, randn, random_mixture, states
from toy_models import MixtureFlow
from toy_models.problems import zoo

PATHS = {"condot": CondOT(), "cosine": Cosine(), "vp": LinearVP(), **{k: every_path()[k] for k in ("ve", "user")}}
LOSS = losses.HalfSquaredResidual(randn(2, 3, seed=50), f64([0.5, -1.0]), noise=0.7)
MIXTURE = random_mixture(3, 3)
PER_SAMPLE = f64([0.1, 0.3, 0.5, 0.8, 0.95])
NEVER = 1e-300


def problem(path, t=PER_SAMPLE):
    return MixtureFlow(MIXTURE, path), states(MIXTURE, path, t, 5)


@functools.cache
def drawn(problem, path, n=8):
    subject = zoo.subject(problem, path)
    generator, times = torch.Generator().manual_seed(11), torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    x, t = subject.states(times, n, generator), times.repeat_interleave(n)
    loss = subject.loss(9, n, generator)
    return subject.flow, loss, x, t, ideal_gradient(subject.reference_flow, loss, x, t, max_error=math.inf).gradient
