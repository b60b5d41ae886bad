"""Targets of property-guided generation: noise and, for each molecule, a property with a wanted value.

In the protocol of Hoogeboom et al. 2022 (EDM, arXiv 2203.17003) the number of atoms and the wanted value are those of a
random molecule of the data. Here every molecule has ``ATOMS`` atoms, and wanted values are distributed as in the
molecules of the data that have as many, between the first and the last of their deciles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from analysis import checks
from real_models.molecules import data
from real_models.molecules.flow import noise
from real_models.molecules.predictor import Predictor
from real_models.molecules.property_loss import PropertyLoss

ATOMS = 18  # as many as QM9 has on average
DECILES = {  # of the 17442 molecules of QM9 with 18 atoms
    "alpha": (69.67, 71.62, 72.67, 73.71, 74.81, 75.86, 76.99, 78.46, 80.99),
    "gap": (5494.0, 5861.0, 6123.0, 6455.0, 6797.0, 7135.0, 7415.0, 7755.0, 8215.0),
    "homo": (-7127.0, -6882.0, -6735.0, -6629.0, -6520.0, -6400.0, -6259.0, -6074.0, -5750.0),
    "lumo": (-914.0, -626.0, -193.0, 125.0, 362.0, 571.0, 770.0, 1146.0, 1790.0),
    "mu": (1.21, 1.60, 1.92, 2.27, 2.67, 3.07, 3.48, 3.95, 4.56),
    "Cv": (28.05, 29.26, 30.11, 30.78, 31.46, 32.03, 32.70, 33.48, 34.66),
}
# Mean absolute deviations from the median in the same molecules: the error of the best constant.
SPREAD = {"alpha": 3.53, "gap": 881.0, "homo": 431.0, "lumo": 789.0, "mu": 1.11, "Cv": 2.00}


def wanted(name: str, n: int, generator: torch.Generator, deciles: Mapping[str, Sequence[float]] = DECILES) -> Tensor:
    """Return n values of a property, (n,) float64, evenly distributed over the molecules of its deciles."""
    ends = torch.tensor(deciles[name], dtype=torch.float64)
    at = torch.rand(n, generator=generator, dtype=torch.float64) * (len(ends) - 1)
    low = at.long()
    return ends[low] + (at - low) * (ends[low + 1] - ends[low])


@dataclass(frozen=True)
class Targets:
    """B molecules to be made: noise x0 (B, N, 8), and a property and its wanted value for each."""

    x0: Tensor
    properties: tuple[str, ...]
    wanted: Tensor

    def __len__(self) -> int:
        return len(self.x0)

    def loss(self, network: Predictor) -> PropertyLoss:
        """Return the loss of a predictor, its guide."""
        return PropertyLoss(network, self.properties, self.wanted)

    def index(self) -> Tensor:
        """Return the positions (B,) of the properties in ``data.PROPERTIES``."""
        return torch.tensor([data.property_index(name) for name in self.properties])

    def first(self, count: int) -> Targets:
        """Return the first ``count`` of them."""
        return replace(self, x0=self.x0[:count], properties=self.properties[:count], wanted=self.wanted[:count])


def draw(each: int, generator: torch.Generator, properties: tuple[str, ...] = data.PROPERTIES) -> Targets:
    """Draw ``each`` targets of every property.

    Parameters
    ----------
    each : number of molecules of each property, at least 1
    properties : some of ``data.PROPERTIES``

    Returns
    -------
    Targets
        Property after property.

    Raises
    ------
    ValueError
        For fewer than one, and for an unknown property.
    """
    each = checks.count("each", each)
    names = tuple(name for name in properties for _ in range(each))
    for name in properties:
        data.property_index(name)
    values = torch.cat([wanted(name, each, generator) for name in properties])
    return Targets(noise(len(names), ATOMS, generator), names, values)
