"""Training of the networks of molecules: batches, and the losses of the flow and of the predictors.

The flow-matching loss of the CondOT path (Lipman et al. 2023, arXiv 2210.02747) is |u(x_t, t) - (x_1 - x_0)|^2 with
noise x_0 of zero centre of mass, each part weighted by 1 / c_out^2 of ``network.scaling`` (Karras et al. 2022, arXiv
2206.00364). Predictors minimise the absolute error of all six properties, each over its ``Predictor.scale``.

A guide must give gradients at molecules that are close to the data but not in it: their bonds are off by hundredths of
an Angstrom, their types are not quite one-hot. Predictors are therefore trained on molecules with noise of up to
``JITTER`` in their coordinates and types; the share of that noise differs from molecule to molecule, down to none.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from real_models.molecules import data
from real_models.molecules.network import ANGSTROM, TYPE_SCALE, TYPES, event, project, scaling
from real_models.molecules.predictor import Predictor

TYPE_SHARE = 0.5  # weight of the types' loss beside the coordinates'
DRAWS = 4  # times and noises per held-out molecule
JITTER = (0.02 * ANGSTROM,) * 3 + (0.1 * TYPE_SCALE,) * TYPES  # largest standard deviation of a predictor's noise
CHUNK = 128  # molecules evaluated together


class Batches:
    """Random batches of training molecules of one size; sizes occur as often as in the data."""

    def __init__(self, molecules: data.Molecules) -> None:
        self.sizes = list(molecules.by_size)
        self.groups = [event(*molecules.stacked(molecules.of_size(n))) for n in self.sizes]
        self.properties = [torch.from_numpy(molecules.properties[molecules.of_size(n)]) for n in self.sizes]
        self.weights = torch.tensor([float(len(group)) for group in self.groups])

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return events (count, N, 8) and their properties (count, 6)."""
        which = int(torch.multinomial(self.weights, 1, generator=generator))
        rows = torch.randint(len(self.groups[which]), (count,), generator=generator)
        return self.groups[which][rows], self.properties[which][rows]


def times(count: int, generator: torch.Generator) -> Tensor:
    """Return times (count,) of density 1/2 + t, evenly spread: fine structure is decided late."""
    u = (torch.rand(count, generator=generator) + torch.arange(count)) / count
    return ((1 + 8 * u).sqrt() - 1) / 2


def noised(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return events x (B, N, 8), a noise for each (B, N, 8), and one of ``times`` for each (B,)."""
    t = times(len(x), generator)
    return x, project(torch.randn(x.shape, generator=generator)), t


def flow_loss(network: nn.Module, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Return the weighted flow-matching loss (B,) of each of what ``noised`` returns."""
    state = noise + t[:, None, None] * (x - noise)
    error = ((network(state, t) - (x - noise)) / scaling(t)[2]).square()
    return error[..., :3].mean((1, 2)) + TYPE_SHARE * error[..., 3:].mean((1, 2))


@torch.no_grad()
def held_out_loss(network: nn.Module, molecules: data.Molecules, draws: int = DRAWS, seed: int = 0) -> Tensor:
    """Return the flow-matching loss (M,) of each molecule, averaged over ``draws`` times and noises."""
    generator, losses = torch.Generator().manual_seed(seed), torch.zeros(len(molecules))
    device = next(network.parameters()).device
    for n in list(molecules.by_size) * draws:
        rows = torch.from_numpy(molecules.of_size(n))
        rows = rows[torch.randperm(len(rows), generator=generator)]  # each molecule at another part of time each draw
        for some in rows.split(CHUNK):
            parts = noised(event(*molecules.stacked(some.numpy())), generator)
            losses[some] += flow_loss(network, *(part.to(device) for part in parts)).float().cpu() / draws
    return losses


def fit_composition(predictor: Predictor, molecules: data.Molecules) -> None:
    """Set the predictor's linear part and scales by least squares on ``molecules``; the dipole has no linear part."""
    element = np.repeat(np.arange(len(molecules)), molecules.sizes) * TYPES + molecules.atoms
    counts = np.bincount(element, minlength=len(molecules) * TYPES).reshape(-1, TYPES)
    inputs = np.column_stack([counts, np.ones(len(counts))]).astype(np.float64)
    labels = molecules.properties.astype(np.float64)
    weights = np.linalg.lstsq(inputs, labels, rcond=None)[0]
    weights[:, data.property_index("mu")] = 0
    predictor.composition.copy_(torch.from_numpy(weights))
    predictor.scale.copy_(torch.from_numpy((labels - inputs @ weights).std(0)))


def jittered(x: Tensor, properties: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return events x (B, N, 8) plus noise of up to ``JITTER``, and their properties (B, 6)."""
    share = torch.rand((len(x), 1, 1), generator=generator)
    return x + share * torch.tensor(JITTER) * torch.randn(x.shape, generator=generator), properties


def prediction_loss(network: Predictor, x: Tensor, properties: Tensor) -> Tensor:
    """Return the mean absolute error (B,), in units of ``Predictor.scale``, at events x (B, N, 8)."""
    return ((network(x) - properties) / network.scale).abs().mean(1)


@torch.no_grad()
def prediction_errors(network: Predictor, molecules: data.Molecules) -> Tensor:
    """Return the absolute errors (M, 6) of the six properties of each molecule, in ``data.UNITS``."""
    errors = torch.zeros(len(molecules), len(data.PROPERTIES))
    for n in molecules.by_size:
        for rows in torch.from_numpy(molecules.of_size(n)).split(CHUNK):
            x = event(*molecules.stacked(rows.numpy())).to(network.scale)
            properties = torch.from_numpy(molecules.properties[rows.numpy()])
            errors[rows] = (network(x).float().cpu() - properties).abs()
    return errors
