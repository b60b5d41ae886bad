"""Small networks that are trained in a test: data whose declaration is known, because the training is written here."""

import functools
import math

import torch


def moons(n, generator):
    """Two half circles with a little noise, (n, 2) float32."""
    angle = math.pi * torch.rand(n, generator=generator)
    upper = torch.rand(n, generator=generator) < 0.5
    x = torch.where(upper, angle.cos(), 1 - angle.cos()), torch.where(upper, angle.sin(), 0.5 - angle.sin())
    return torch.stack(x, 1) + 0.05 * torch.randn(n, 2, generator=generator)


class Small(torch.nn.Module):
    """A network of x (B, 2) and a time (B,)."""

    def __init__(self, labels=0):
        super().__init__()
        self.labels = torch.nn.Embedding(labels, 8) if labels else None
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(7 + 8 * bool(labels), 64), torch.nn.SiLU(),
            torch.nn.Linear(64, 64), torch.nn.SiLU(), torch.nn.Linear(64, 2),
        )  # fmt: skip

    def forward(self, x, t, y=None):
        angle = math.pi * t[:, None]
        given = [x, t[:, None], angle.sin(), angle.cos(), (angle / 2).sin(), (angle / 2).cos()]
        given += [self.labels(y)] if self.labels else []
        return self.layers(torch.cat(given, 1))


@functools.cache
def trained(path, prediction, turned=False, steps=700):
    """A network of two moons: ``turned`` where its time runs from data (0) to noise (1), and a velocity is dx/ds."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Small()
    optimiser = torch.optim.Adam(network.parameters(), 4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        x1 = moons(256, generator)
        x0, t = torch.randn(256, 2, generator=generator), torch.rand(256, generator=generator, dtype=torch.float64)
        t = 0.001 + 0.998 * t
        alpha, sigma, d_alpha, d_sigma = (
            c(t).float()[:, None] for c in (path.alpha, path.sigma, path.d_alpha, path.d_sigma)
        )
        said = network(alpha * x1 + sigma * x0, (1 - t if turned else t).float())
        sign = -1 if turned else 1
        truth = {"velocity": sign * (d_alpha * x1 + d_sigma * x0), "target": x1, "source": x0, "score": x0}
        wrong = (-sigma * said if prediction == "score" else said) - truth[prediction]
        optimiser.zero_grad()
        wrong.square().mean().backward()
        optimiser.step()
        schedule.step()
    return network.eval().requires_grad_(False)
