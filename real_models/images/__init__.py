"""Learned flows of 28x28 handwritten digits: "mnist" learned real digits, "mixture" samples of their fitted mixture.

States are flat, (B, 784), row-major, pixels in [-1, 1], as in ``toy_models``, so that its operators, exact posteriors
and certified gradients of the fitted mixture apply to the learned flows.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from analysis import checks
from analysis.audit.subject import Audited
from analysis.flow import PredictionFlow
from analysis.paths import PATHS, CondOT
from analysis.settings import DTYPES
from analysis.subject import Subject
from real_models import checkpoint
from real_models.images import data
from real_models.images.unet import UNet

WEIGHTS = Path(__file__).parent / "weights"
NETWORKS = ("mnist", "mixture")
PROBLEMS = {f"{name}_unet": name for name in NETWORKS}


class Flat(nn.Module):
    """A network of images applied to flat states: x (B, 784) and t (B,) to velocities (B, 784)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the velocity of flat states."""
        return self.network(x.unflatten(1, (1, data.SIDE, data.SIDE)), t).flatten(1)


def network(name: str = "mnist", dtype: torch.dtype = torch.float32, device: str = "cpu") -> UNet:
    """Return the committed U-Net called ``name``, x (B, 1, 28, 28) and t (B,) to velocities, its weights fixed."""
    path = WEIGHTS / f"{checks.known('name', name, NETWORKS)}.safetensors"
    return checkpoint.load(path, UNet).to(device, dtype).eval().requires_grad_(False)


def flow(name: str = "mnist", dtype: torch.dtype = torch.float32, device: str = "cpu") -> PredictionFlow:
    """Return the learned flow called ``name`` along the CondOT path; its events are flat, (784,)."""
    learned = PredictionFlow(Flat(network(name, dtype, device)), CondOT(), "velocity")
    learned.event_shape, learned.dtype = (data.SIDE**2,), dtype
    return learned


def subject(problem: str, path: str, dtype: str, device: str) -> Subject:
    """Return "mnist_unet" or "mixture_unet" for an experiment: the flow, and the same network in float64 for its truth.

    Returns
    -------
    Subject
        Its states (B, 784) are X_t of held-out images; the loss is half the squared distance to another of them.
    """
    name = PROBLEMS[checks.known("problem", problem, PROBLEMS)]
    condot = checks.known("path", path, PATHS) == "condot"
    pair = flow(name, DTYPES[dtype], device), flow(name, torch.float64)
    learned, truth = pair if condot else tuple(one.with_path(PATHS[path]()) for one in pair)
    images = data.held_out()[0].double()

    def sample(n: int, generator: torch.Generator) -> Tensor:
        return images[torch.randint(len(images), (n,), generator=generator)]

    return Subject.of(learned, truth, sample)


def audited() -> Audited:
    """Return the flow of real digits for ``python reproduce.py audit real_models.images:audited``."""
    return Audited(Flat(network()), data.held_out()[0], path=CondOT())
