"""A small convolutional flow, as an experiment takes it."""

import torch

from analysis import losses, paths
from analysis.flow import from_velocity
from analysis.settings import DTYPES
from analysis.subject import Subject

SIDE = 4


class Network(torch.nn.Module):
    """A smooth velocity of flat images, by convolutions."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.last = torch.nn.Conv2d(2, 8, 3, padding=1), torch.nn.Conv2d(8, 1, 3, padding=1)
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=generator) / 4

    def forward(self, x, t):
        image = x.unflatten(1, (1, SIDE, SIDE))
        times = t[:, None, None, None].expand_as(image)
        return self.last(torch.tanh(self.first(torch.cat([image, times], 1)))).flatten(1)


def subject(problem, path, dtype, device):
    def flow(dtype, device):
        return from_velocity(Network().to(device, DTYPES[dtype]), paths.CondOT())

    def states(times, n, generator):
        return torch.randn(len(times) * n, SIDE**2, dtype=torch.float64, generator=generator)

    def loss(repeats, n, generator):
        target = torch.randn(n, SIDE**2, dtype=torch.float64, generator=generator)
        return losses.HalfSquaredDistance(target.repeat(repeats, 1))

    return Subject(flow(dtype, device), flow("float64", "cpu"), states, loss)
