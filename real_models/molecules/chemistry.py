"""Which atoms are bonded, whether a molecule is stable and valid, and how varied and new a set of molecules is.

Bonds and stability are those of Hoogeboom et al. 2022 (EDM, arXiv 2203.17003, appendix): a pair is bonded where it is
closer than a typical bond length plus a margin, an atom is stable where its bonds add up to its valency, a molecule
where all of its atoms are. Validity is whether RDKit can sanitise the molecule that these bonds make.
"""

from __future__ import annotations

import torch
from torch import Tensor

from real_models.molecules.data import ELEMENTS

VALENCIES = {"H": 1, "C": 4, "N": 3, "O": 2, "F": 1}
# Typical lengths in hundredths of an Angstrom, as tabulated by EDM from standard tables of chemistry.
SINGLE = {
    "HH": 74, "HC": 109, "HN": 101, "HO": 96, "HF": 92,
    "CC": 154, "CN": 147, "CO": 143, "CF": 135,
    "NN": 145, "NO": 140, "NF": 136, "OO": 148, "OF": 142, "FF": 142,
}  # fmt: skip
DOUBLE = {"CC": 134, "CN": 129, "CO": 120, "NN": 125, "NO": 121, "OO": 121}
TRIPLE = {"CC": 120, "CN": 116, "CO": 113, "NN": 110}
MARGINS = (10, 5, 3)  # of single, double and triple bonds


def _limits() -> Tensor:
    """Return the distance in Angstrom below which two elements have at least each order of bond, (3, 5, 5)."""
    limits = torch.zeros(3, len(ELEMENTS), len(ELEMENTS))
    for order, (lengths, margin) in enumerate(zip((SINGLE, DOUBLE, TRIPLE), MARGINS, strict=True)):
        for pair, length in lengths.items():
            i, j = (ELEMENTS.index(name) for name in pair)
            limits[order, i, j] = limits[order, j, i] = (length + margin) / 100
    return limits


def bonds(atoms: Tensor, position: Tensor) -> Tensor:
    """Return the orders of the bonds (B, N, N), 0 to 3, of atoms (B, N) at positions (B, N, 3) in Angstrom."""
    distance = torch.cdist(position.double(), position.double(), compute_mode="donot_use_mm_for_euclid_dist")
    closer = distance < _limits().to(distance)[:, atoms.unsqueeze(2), atoms.unsqueeze(1)]
    # A double bond is only looked for in what is close enough for a single one, and so on.
    orders = closer.long().cumprod(0).sum(0)
    return orders * (1 - torch.eye(atoms.shape[1], dtype=orders.dtype, device=orders.device))


def stable_atoms(atoms: Tensor, position: Tensor) -> Tensor:
    """Return which atoms have bonds that add up to their valency, (B, N)."""
    valency = torch.tensor([VALENCIES[name] for name in ELEMENTS], device=atoms.device)
    return bonds(atoms, position).sum(-1) == valency[atoms]
