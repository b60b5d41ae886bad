"""Small functions of which the tests ask what a user's function is asked."""

import torch

from analysis import losses, paths
from analysis.flow import from_velocity
from analysis.gradients import ESTIMATORS
from tests.support.problems import randn

X, LOSS = randn(8, 2), losses.HalfSquaredDistance([1.0, -1.0])
CONDOT = paths.CondOT()


def network(*middle):
    generator = torch.Generator().manual_seed(0)
    made = torch.nn.Sequential(torch.nn.Linear(3, 16), *middle, torch.nn.Tanh(), torch.nn.Linear(16, 2)).double()
    for p in made.parameters():
        p.data = torch.randn(p.shape, generator=generator, dtype=torch.float64) / 2
    return made


def called(net, x, t):
    return net(torch.cat([x, t[:, None]], 1))


NET = network()


def greedy(function, x=X):
    return ESTIMATORS["greedy"](from_velocity(function, CONDOT), LOSS, x, 0.3).gradient
