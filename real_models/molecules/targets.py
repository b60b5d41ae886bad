"""Targets of property-guided generation: noise and, for each molecule, a property with a wanted value.

In the protocol of Hoogeboom et al. 2022 (EDM, arXiv 2203.17003) the number of atoms and the wanted value are those of a
random molecule of the data. Here the molecules of a batch have one number of atoms, ``ATOMS`` where nothing else is
said, and wanted values are distributed as in the molecules of the data that have as many, between the first and the
last of their deciles. Deciles for other numbers of atoms are read from the data (extra ``molecules``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from analysis import checks
from real_models.molecules import data
from real_models.molecules.flow import noise
from real_models.molecules.property_loss import PropertyLoss, Scaled

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
LEAST = 100  # molecules of a size in the data, for deciles of it


@cache
def statistics(atoms: int) -> tuple[Mapping[str, Sequence[float]], Mapping[str, float]]:
    """Return the deciles of every property, and its spread, in the molecules of QM9 with so many atoms.

    Returns
    -------
    tuple
        As ``DECILES`` and ``SPREAD`` are.

    Raises
    ------
    ValueError
        For a number of atoms that fewer than ``LEAST`` molecules of the data have.
    ImportError
        For another number than ``ATOMS``, where the data are not there; the message has the line that installs them.
    """
    if checks.count("atoms", atoms) == ATOMS:
        return DECILES, SPREAD
    molecules = data.load()
    known = [n for n, some in molecules.by_size.items() if len(some) >= LEAST]
    if atoms not in known:
        raise ValueError(f"atoms must be a number that {LEAST} molecules of QM9 have, one of {known}, got {atoms}")
    values = molecules.properties[molecules.of_size(atoms)].astype(float)
    deciles = np.quantile(values, np.arange(1, 10) / 10, axis=0)
    spread = np.abs(values - np.median(values, axis=0)).mean(0)
    columns = dict(zip(data.PROPERTIES, deciles.T.tolist(), strict=True))
    return columns, dict(zip(data.PROPERTIES, spread.tolist(), strict=True))


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

    def loss(self, network: Scaled) -> PropertyLoss:
        """Return the loss of a predictor, its guide."""
        return PropertyLoss(network, self.properties, self.wanted)

    @property
    def atoms(self) -> int:
        """N, the number of atoms."""
        return self.x0.shape[1]

    def index(self) -> Tensor:
        """Return the positions (B,) of the properties in ``data.PROPERTIES``."""
        return torch.tensor([data.property_index(name) for name in self.properties])

    def spread(self) -> Tensor:
        """Return the spread (B,) of their properties in molecules of as many atoms, float64."""
        known = statistics(self.atoms)[1]
        return torch.tensor([known[name] for name in self.properties], dtype=torch.float64)

    def to(self, device: str) -> Targets:
        """Return the targets with their noise on a device; what is wanted stays on the CPU."""
        return replace(self, x0=self.x0.to(device))

    def part(self, index: slice) -> Targets:
        """Return the targets of a slice."""
        return Targets(self.x0[index], self.properties[index], self.wanted[index])


def draw(
    each: int, generator: torch.Generator, properties: tuple[str, ...] = data.PROPERTIES, atoms: int = ATOMS
) -> Targets:
    """Draw ``each`` targets of every property.

    Parameters
    ----------
    each : number of molecules of each property, at least 1
    properties : some of ``data.PROPERTIES``
    atoms : the number of atoms of all

    Returns
    -------
    Targets
        Property after property.

    Raises
    ------
    ValueError
        For fewer than one, for an unknown property, and as ``statistics`` does.
    """
    each = checks.count("each", each)
    names = tuple(name for name in properties for _ in range(each))
    for name in properties:
        data.property_index(name)
    deciles = statistics(atoms)[0]
    values = torch.cat([wanted(name, each, generator, deciles) for name in properties])
    return Targets(noise(len(names), atoms, generator), names, values)
