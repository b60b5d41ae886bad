"""Bonds of atoms, stability and validity of molecules, and the uniqueness and novelty of a set of them.

Bonds and stability are those of Hoogeboom et al. 2022 (EDM, arXiv 2203.17003, appendix C; lengths as in its public
code): two atoms are bonded if they are closer than a typical bond length plus a margin, an atom is stable if its bonds
add up to its valency, a molecule if all of its atoms are. A molecule is valid if RDKit can sanitise the largest
connected part of the graph of these bonds, as EDM counts; it is also connected if that part is the whole graph.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch
from scipy.stats import binomtest
from torch import Tensor

from analysis import results
from real_models.molecules import data
from real_models.molecules.data import ELEMENTS

VALENCIES = {"H": 1, "C": 4, "N": 3, "O": 2, "F": 1}
# Typical lengths in hundredths of an Angstrom.
SINGLE = {
    "HH": 74, "HC": 109, "HN": 101, "HO": 96, "HF": 92,
    "CC": 154, "CN": 147, "CO": 143, "CF": 135,
    "NN": 145, "NO": 140, "NF": 136, "OO": 148, "OF": 142, "FF": 142,
}  # fmt: skip
DOUBLE = {"CC": 134, "CN": 129, "CO": 120, "NN": 125, "NO": 121, "OO": 121}
TRIPLE = {"CC": 120, "CN": 116, "CO": 113, "NN": 110}
MARGINS = (10, 5, 3)  # of single, double and triple bonds
INSTALL = 'Validity of molecules needs RDKit: pip install -e ".[molecules]"'


@lru_cache(maxsize=1)
def _limits() -> Tensor:
    """Return the distance in Angstrom below which two elements have at least each order of bond, (3, 5, 5)."""
    limits = torch.zeros(3, len(ELEMENTS), len(ELEMENTS), dtype=torch.float64)
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
    """Return a mask (B, N) of the atoms whose bonds add up to their valency."""
    valency = torch.tensor([VALENCIES[name] for name in ELEMENTS], device=atoms.device)
    return bonds(atoms, position).sum(-1) == valency[atoms]


def require() -> Any:
    """Return ``rdkit.Chem``; raises ``ImportError`` with the line that installs it if it is missing."""
    try:
        from rdkit import Chem
    except ImportError as error:
        raise ImportError(INSTALL) from error
    return Chem


def molecule(atoms: Sequence[int], orders: Tensor) -> Any:
    """Return the RDKit molecule, not sanitised, of atoms (N,) and bond orders (N, N).

    Returns
    -------
    Any
        ``rdkit.Chem.RWMol``.

    Raises
    ------
    ImportError
        If RDKit is missing; the message has the line that installs it.
    """
    chem = require()
    kinds = (None, chem.BondType.SINGLE, chem.BondType.DOUBLE, chem.BondType.TRIPLE)
    made = chem.RWMol()
    for atom in atoms:
        made.AddAtom(chem.Atom(ELEMENTS[atom]))
    for i, j in orders.tril().nonzero().tolist():
        made.AddBond(i, j, kinds[int(orders[i, j])])
    return made.GetMol()


def sanitised(whole: Any) -> tuple[str | None, bool]:
    """Return the canonical SMILES of the largest connected part (``None`` if invalid), and whether it is the whole."""
    chem = require()
    parts = chem.GetMolFrags(whole, asMols=True, sanitizeFrags=False)
    largest = max(parts, key=lambda part: part.GetNumAtoms())
    try:
        with chem.rdBase.BlockLogs():  # it would print why each one is not valid
            chem.SanitizeMol(largest)
    except chem.MolSanitizeException:
        return None, len(parts) == 1
    return chem.MolToSmiles(largest), len(parts) == 1


@dataclass(frozen=True)
class Judgement:
    """Judgement of M molecules: numbers of stable and of all atoms, SMILES or ``None``, and connectedness of each."""

    stable: list[int]
    sizes: list[int]
    smiles: list[str | None]
    connected: list[bool]

    def __add__(self, other: Judgement) -> Judgement:
        """Return the judgement of the molecules of both."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__)
        return Judgement(*(one + more for one, more in pairs))


def judge(atoms: Tensor, position: Tensor) -> Judgement:
    """Judge molecules of one number of atoms, (B, N) and (B, N, 3) in Angstrom; raises as ``molecule`` does."""
    orders = bonds(atoms, position)
    stable = stable_atoms(atoms, position).sum(1).tolist()
    outcomes = [sanitised(molecule(row, order)) for row, order in zip(atoms.tolist(), orders, strict=True)]
    smiles, connected = ([outcome[i] for outcome in outcomes] for i in (0, 1))
    return Judgement(stable, [atoms.shape[1]] * len(atoms), smiles, connected)  # type: ignore[arg-type]


def wilson(count: int, total: int) -> tuple[float, float, float]:
    """Return a share and its 95 % interval (Wilson 1927), NaN where ``total`` is zero."""
    if not total:
        return (float("nan"),) * 3
    ends = binomtest(count, total).proportion_ci(method="wilson")
    return count / total, float(ends.low), float(ends.high)


def shares(judged: Judgement, training: Iterable[str]) -> dict[str, tuple[float, float, float]]:
    """Compute stability, validity, uniqueness and novelty against the SMILES of ``training``.

    Uniqueness is the share of distinct molecules among the valid ones, novelty the share of those that are not in
    ``training``. The interval of atom stability treats atoms as independent of each other, as is usual in the field.

    Returns
    -------
    dict
        From the name of a share to (share, low, high), with the 95 % interval of Wilson.
    """
    valid = [name for name in judged.smiles if name is not None]
    total, distinct = len(judged.sizes), set(valid)
    whole = [name is not None and one for name, one in zip(judged.smiles, judged.connected, strict=True)]
    stable = [count == size for count, size in zip(judged.stable, judged.sizes, strict=True)]
    return {
        "atom_stability": wilson(sum(judged.stable), sum(judged.sizes)),
        "molecule_stability": wilson(sum(stable), total),
        "validity": wilson(len(valid), total),
        "valid_and_connected": wilson(sum(whole), total),
        "uniqueness": wilson(len(distinct), len(valid)),
        "novelty": wilson(len(distinct - set(training)), len(distinct)),
    }


def judge_data(molecules: data.Molecules) -> Judgement:
    """Judge molecules of the data."""
    judged = Judgement([], [], [], [])
    for n in molecules.by_size:
        judged = judged + judge(*molecules.stacked(molecules.of_size(n)))
    return judged


def judge_part(name: str) -> Judgement:
    """Judge all molecules of one of ``data.splits``, once (minutes); the judgement is stored in the cache folder."""
    path = data.cache_folder() / "molecules" / f"{name}_judged.json"
    if not path.exists():
        results.write_json(path, asdict(judge_data(data.part(name))))
    return Judgement(**json.loads(path.read_text()))
