"""What the tests of the audit share."""

import torch

from analysis.audit import AuditOptions, measure
from analysis.audit.subject import load


class Network(torch.nn.Module):
    def __init__(self, dim=2, scale=1.5):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.last = torch.nn.Linear(dim + 1, 16), torch.nn.Linear(16, dim)
        for p in self.parameters():
            p.data = scale / p.shape[-1] ** 0.5 * torch.randn(p.shape, generator=generator)

    def forward(self, x, t):
        return self.last(torch.tanh(self.first(torch.cat([x, t[:, None]], 1))))


def options(factory, **changed):
    """The options of a small audit of "module:factory"."""
    return AuditOptions(factory, **{"times": [0.4, 0.8], "samples": 5, "quick": True} | changed)


def cells(options):
    """The cells of an audit of a factory, as the command line makes them."""
    subject, again = (load(options.name, options.device) for _ in range(2))
    return options.cells(subject, again, marked=True)


def measured(factory, **changed):
    """The rows of the first time."""
    return measure.measure(cells(options(factory, **changed))[0])
