"""Good arguments for the public functions on which malformed ones are tried, and the kind that each argument is."""

import torch

from analysis import losses, paths
from analysis.flow import from_velocity
from tests.support.malformed import Bare, Call
from tests.support.problems import f64, randn, random_mixture
from toy_models import (
    LowRankMixture,
    MixtureFlow,
)

CONDOT, MIXTURE = paths.CondOT(), random_mixture(2, 2)
FLOW, NETWORK = MixtureFlow(MIXTURE, CONDOT), from_velocity(lambda x, t: -torch.tanh(x), CONDOT)
X, LOSS = randn(3, 2), losses.HalfSquaredDistance(f64([0.5, -0.5]))
A, Y, R = f64([[1.0, 0.5]]), f64([0.3]), f64([[0.2]])
WEIGHTS, MEANS, COVARIANCES = f64([0.3, 0.7]), f64([[0.0, 1.0], [1.0, 0.0]]), torch.eye(2).double().repeat(2, 1, 1)
LOW_RANK = LowRankMixture(WEIGHTS, MEANS, torch.ones(2, 2, 1).double() / 10, torch.ones(2, 2).double())
FACTORS = [(WEIGHTS, f64([0.0, 1.0]), f64([1.0, 0.5]))] * 2
ASKED = {"flow": FLOW, "loss": LOSS, "x": X, "t": 0.4}
SCORE = {"score": lambda x, t: -x}

GOOD = {  # arguments that mean the same wherever they occur: a good value, and the kind of its bad ones
    "flow": (FLOW, "flow"),
    "loss": (LOSS, "loss"),
    "path": (CONDOT, "path"),
    "x": (X, "state"),
    "x0": (X, "state"),
    "t": (0.4, "time"),
    "steps": (2, "count"),
    "keep": (1, "count"),
    "max_steps": (8, "count"),
    "slots": (2, "count or None"),
    "samples": (2, "count"),
    "order": (2, "count"),
    "iterations": (1, "count"),
    "intervals": (2, "count"),
    "inner": (1, "count"),
    "solver": ("euler", "name"),
    "grid": ("t", "name"),
    "memory": ("recursive", "name"),
    "expansion": ("zeta", "name"),
    "schedule": ("constant", "name"),
    "rule": ("constant", "name"),
    "when": ("before", "name"),
    "optimiser": ("sgd", "name"),
    "lookahead": ("greedy", "name"),
    "gradient": ("greedy", "name"),
    "horizon": (0.8, "time or None"),
    "horizon_fraction": (0.5, "share"),
    "scale": (0.1, "at least 0"),
    "tolerance": (0.1, "positive"),
    "learning_rate": (0.1, "positive"),
    "data_variance": (1.0, "positive"),
    "weight": (0.1, "at least 0"),
    "seed": (0, "seed"),
    "divergence": (1e4, "positive"),
    "churn": (0.5, "share"),
    "midpoint": (0.5, "share"),
    "start": ("transition", "name"),
    "noise": (0.1, "positive"),
    "generator": (torch.Generator(), "generator"),
    "side": (4, "count"),
    "prediction": ("velocity", "name"),
    "network": (Bare(), "function"),
    "function": (Bare(), "function"),
    "event_shape": ((2,), "shape"),
}


def call(label, function, arguments="", /, _names=None, _fixed=None, **more):
    """A call with arguments out of ``GOOD`` and others as (good value, kind); those of ``_fixed`` are not replaced."""
    given = {argument: GOOD[argument] for argument in arguments.split()} | more
    good = {argument: value for argument, (value, _) in given.items()}
    kinds = {argument: kind for argument, (_, kind) in given.items()}
    return Call(label, function, (_fixed or {}) | good, kinds, _names or {})
