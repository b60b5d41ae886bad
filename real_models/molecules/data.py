"""QM9: molecules of up to nine heavy atoms (C, N, O, F), their geometry and six properties (extra ``molecules``).

Data: Ramakrishnan, Dral, Rupp & von Lilienfeld, "Quantum chemistry structures and properties of 134 kilo molecules",
Scientific Data 1 (2014) 140022, as the package ``qm9pack`` ships it: the 130 831 molecules that passed the consistency
check of its authors. Geometries and labels are at B3LYP/6-31G(2df,p).

The tables in the package are 225 MB of text. They are read once into arrays of 15 MB, kept in ``cache_folder``.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis import results

ELEMENTS = ("H", "C", "N", "O", "F")
LARGEST = 29  # atoms in a molecule
PROPERTIES = ("alpha", "gap", "homo", "lumo", "mu", "Cv")
UNITS = {"alpha": "Bohr^3", "gap": "meV", "homo": "meV", "lumo": "meV", "mu": "D", "Cv": "cal/(mol K)"}
RANGES = {  # of all but one in a thousand molecules at either end
    "alpha": (40.0, 100.2),
    "gap": (3292.0, 10199.0),
    "homo": (-8869.0, -4346.0),
    "lumo": (-3527.0, 2686.0),
    "mu": (0.0, 13.5),
    "Cv": (16.9, 44.1),
}
DECILES = {  # from a tenth to nine tenths of the molecules
    "alpha": (65.3, 69.0, 71.7, 73.7, 75.6, 77.6, 79.5, 81.9, 85.2),
    "gap": (5257.0, 5747.0, 6057.0, 6406.0, 6822.0, 7225.0, 7625.0, 8153.0, 8621.0),
    "homo": (-7219.0, -6966.0, -6797.0, -6672.0, -6561.0, -6446.0, -6313.0, -6131.0, -5818.0),
    "lumo": (-1284.0, -797.0, -449.0, 5.0, 357.0, 664.0, 999.0, 1717.0, 2087.0),
    "mu": (1.03, 1.42, 1.73, 2.07, 2.47, 2.89, 3.33, 3.87, 4.58),
    "Cv": (26.7, 28.4, 29.6, 30.6, 31.6, 32.6, 33.7, 35.0, 36.8),
}
# Molecules of each number of atoms in the half that the flow is trained on, so that samples need no data at hand.
SIZES = {
    3: 1, 4: 2, 5: 1, 6: 4, 7: 9, 8: 20, 9: 63, 10: 200, 11: 387, 12: 830, 13: 1471, 14: 2561, 15: 3853, 16: 5254,
    17: 6518, 18: 6734, 19: 6962, 20: 4804, 21: 4986, 22: 1666, 23: 2489, 24: 274, 25: 747, 26: 22, 27: 132, 29: 10,
}  # fmt: skip
HARTREE = 27211.386  # meV
PARTS = ("qm9_part1.csv", "qm9_part2.csv", "qm9_part3.csv")
COLUMNS = {
    "alpha": "Polarizability_bohr3",
    "gap": "HOMO_LUMO_gap_au",
    "homo": "HOMO_au",
    "lumo": "LUMO_au",
    "mu": "Dipole_debye",
    "Cv": "Heatcapacity_Cv_cal_mol_K",
}
TRAINING, HALF, TEST, SEED = 100_000, 50_000, 13_083, 0
FIELDS = ("atoms", "coordinates", "properties", "sizes")
INSTALL = 'QM9 is read from the package qm9pack: pip install -e ".[molecules]"'


@dataclass(frozen=True)
class Molecules:
    """M molecules with A atoms in all, stored one after another.

    Attributes
    ----------
    atoms : indices into ``ELEMENTS``, uint8 (A,)
    coordinates : thousandths of an Angstrom, int16 (A, 3)
    properties : in the order of ``PROPERTIES`` and in ``UNITS``, float32 (M, 6)
    sizes : the number of atoms of each molecule, (M,)
    """

    atoms: np.ndarray
    coordinates: np.ndarray
    properties: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def starts(self) -> np.ndarray:
        """The index of the first atom of each molecule, (M,)."""
        return np.concatenate([[0], np.cumsum(self.sizes, dtype=np.int64)[:-1]])

    @cached_property
    def by_size(self) -> dict[int, np.ndarray]:
        """The indices of the molecules of each number of atoms that occurs."""
        return {int(n): np.flatnonzero(self.sizes == n) for n in np.unique(self.sizes)}

    def of_size(self, n: int) -> np.ndarray:
        """Return the indices (B,) of the molecules of n atoms; raises ``ValueError`` where there is none."""
        if n not in self.by_size:
            raise ValueError(f"n must be a number of atoms that occurs, one of {sorted(self.by_size)}, got {n}")
        return self.by_size[n]

    def stacked(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Stack molecules of one size.

        Returns
        -------
        tuple
            Atoms (B, N) and centred coordinates (B, N, 3) in Angstrom.

        Raises
        ------
        ValueError
            If the molecules have different numbers of atoms.
        """
        sizes = np.unique(self.sizes[indices])
        if len(sizes) != 1:
            raise ValueError(f"indices must name molecules of one number of atoms, got {sizes.tolist()}")
        rows = self.starts[indices][:, None] + np.arange(sizes[0])
        x = torch.from_numpy(self.coordinates[rows].astype(np.float32) / 1000)
        return torch.from_numpy(self.atoms[rows].astype(np.int64)), x - x.mean(1, keepdim=True)

    def select(self, indices: np.ndarray) -> Molecules:
        """Return the molecules with the given indices, in that order."""
        sizes = self.sizes[indices]
        first = np.repeat(self.starts[indices] - np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes)
        rows = first + np.arange(sizes.sum())
        return Molecules(self.atoms[rows], self.coordinates[rows], self.properties[indices], sizes)

    def labels(self, indices: np.ndarray, name: str) -> Tensor:
        """Return one property (B,) of the molecules with the given indices (B,); raises as ``property_index`` does."""
        return torch.from_numpy(self.properties[indices, property_index(name)])


def property_index(name: str) -> int:
    """Return the position of a property in ``PROPERTIES``; raises ``ValueError`` for an unknown one."""
    if name not in PROPERTIES:
        raise ValueError(f"property must be one of {', '.join(PROPERTIES)}, got {name!r}")
    return PROPERTIES.index(name)


def cache_folder() -> Path:
    """Return the folder for cached arrays and training states; ``GUIDANCE_GRADIENTS_CACHE`` names another one."""
    return Path(os.environ.get("GUIDANCE_GRADIENTS_CACHE") or Path.home() / ".cache" / "guidance-gradients")


def element_indices(names: Sequence[str]) -> list[int]:
    """Return the positions of elements in ``ELEMENTS``; raises ``ValueError`` for one outside it."""
    if unknown := sorted({str(name) for name in names} - set(ELEMENTS)):
        raise ValueError(f"elements must be among {', '.join(ELEMENTS)}, got {', '.join(unknown)}")
    return [ELEMENTS.index(name) for name in names]


def collect(molecules: Iterable[tuple[list[str], np.ndarray, np.ndarray]]) -> Molecules:
    """Collect molecules from their elements, coordinates (N, 3) in Angstrom and six properties.

    Returns
    -------
    Molecules
        In the given order.

    Raises
    ------
    ValueError
        For an element outside ``ELEMENTS``, or more than 29 atoms.
    """
    elements, coordinates, properties = zip(*molecules, strict=True)
    sizes = np.array([len(names) for names in elements])
    if sizes.max() > LARGEST:
        raise ValueError(f"molecules must have at most {LARGEST} atoms, got one of {sizes.max()}")
    thousandths = np.rint(1000 * np.concatenate(coordinates)).astype(np.int16)
    atoms = np.array(element_indices([name for names in elements for name in names]), np.uint8)
    return Molecules(atoms, thousandths, np.array(properties, np.float32), sizes)


def _numbers(text: str) -> np.ndarray:
    """Read nested lists of numbers as Mathematica writes them: ``1.2*^-6`` is 1.2e-6, and ``0.`` is no JSON."""
    plain = text.replace("*^", "e").translate(str.maketrans("", "", "[] "))
    return np.array(plain.split(","), dtype=np.float64)


def _rows(path: Path) -> Iterable[tuple[list[str], np.ndarray, np.ndarray]]:
    """Yield elements, coordinates and properties of each line of one of the package's tables."""
    frame = pd.read_csv(path, usecols=["Elements", "XYZ_Ang", *COLUMNS.values()])
    scale = np.array([HARTREE if UNITS[name] == "meV" else 1.0 for name in PROPERTIES])
    values = frame[list(COLUMNS.values())].to_numpy(np.float64) * scale
    for elements, coordinates, row in zip(frame["Elements"], frame["XYZ_Ang"], values, strict=True):
        yield elements.translate(str.maketrans("", "", "[]' ")).split(","), _numbers(coordinates).reshape(-1, 3), row


def _package() -> Path:
    """Return the folder of the package's tables without an import, which needs old setuptools; or ``ImportError``."""
    spec = importlib.util.find_spec("qm9pack")
    if spec is None or spec.origin is None:
        raise ImportError(INSTALL)
    return Path(spec.origin).parent / "data"


@lru_cache(maxsize=1)
def load() -> Molecules:
    """Load all of QM9, from the cache or else from the package.

    Returns
    -------
    Molecules
        In the package's order.

    Raises
    ------
    ImportError
        If neither is there; the message has the line that installs the package.
    """
    path = cache_folder() / "molecules" / "qm9.npz"
    if not path.exists():
        folder = _package()
        whole = collect(row for part in PARTS for row in _rows(folder / part))
        results.write_whole(
            path, lambda file: np.savez_compressed(file, **{name: getattr(whole, name) for name in FIELDS})
        )
    with np.load(path) as stored:
        return Molecules(**{name: stored[name] for name in FIELDS})


@lru_cache(maxsize=1)
def splits() -> dict[str, np.ndarray]:
    """Split QM9 into "evaluator" and "flow" (halves of the training part), "validation" and "test".

    Sizes as in EDM (Hoogeboom et al. 2022, arXiv 2203.17003): 100 000 to train, a tenth to test.

    Returns
    -------
    dict
        From the name of a part to the indices of its molecules.
    """
    order = np.random.default_rng(SEED).permutation(len(load()))
    cuts = [HALF, TRAINING, TRAINING + TEST]
    return dict(zip(("evaluator", "flow", "test", "validation"), np.split(order, cuts), strict=True))


def part(name: str) -> Molecules:
    """Return the molecules of one of ``splits``."""
    return load().select(splits()[name])
