"""Zoo problems whose gradients are rows of the Jacobian DPhi, at states of equal x/alpha."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from analysis.losses import Linear, Loss
from analysis.subject import Subject
from toy_models.problems import zoo


def subject(problem: str, path: str, dtype: str = "float64", device: str = "cpu") -> Subject:
    """Make a subject of a zoo problem whose losses are products with random unit vectors: gradients are rows of DPhi.

    All times start from the same x/alpha, a sample of the data: errors at different times are those of one curve.

    Returns
    -------
    Subject
        With states (B, d).
    """
    base = zoo.subject(problem, path, dtype, device)
    data, schedule = zoo.distribution(base.reference_flow), base.reference_flow.path

    def states(times: Tensor, n: int, generator: torch.Generator) -> Tensor:
        return (schedule.alpha(times)[:, None, None] * data.sample(n, generator)).flatten(0, 1)

    def loss(repeats: int, n: int, generator: torch.Generator) -> Loss:
        rows = torch.randn(n, data.dim, dtype=torch.float64, generator=generator)
        return Linear(torch.nn.functional.normalize(rows).repeat(repeats, 1))

    return replace(base, states=states, loss=loss)
