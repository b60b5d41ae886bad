"""Properties of molecules by a semi-empirical method, GFN2-xTB, as a judge that is no network (extra ``molecules``).

Method: Bannwarth, Ehlert & Grimme, J. Chem. Theory Comput. 15 (2019) 1652; package: ``tblite``. A molecule is judged in
the geometry that it was made in. Frontier orbitals and the dipole are those of one calculation; the polarizability is
the mean of central differences of the dipole in a field along each axis. The heat capacity would need vibrations, which
a geometry that is no minimum does not have, and is not judged.

GFN2-xTB is another method than the labels' (B3LYP), so a straight line per property translates: ``python -m
real_models.molecules.xtb`` fits the lines to molecules of the test part and writes them to ``weights/xtb.json``, with
the mean absolute error that is left.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis import results
from real_models import options
from real_models.molecules import WEIGHTS, data
from real_models.molecules.flow import OVERLAP
from real_models.molecules.targets import ATOMS

PROPERTIES = ("alpha", "gap", "homo", "lumo", "mu")
BOHR, DEBYE = 0.529177210903, 2.541746473  # Angstrom, and Debye in an atomic unit
NUMBERS = (1, 6, 7, 8, 9)  # of ``data.ELEMENTS``
FIELD = 1e-3  # atomic units
INSTALL = 'Judging molecules by GFN2-xTB needs tblite: pip install -e ".[molecules]"'
FITTED = 200


class JudgeError(ValueError):
    """A molecule that has no properties by this method; the message says why."""


def require() -> Any:
    """Return the interface and library of tblite; raises ``ImportError`` with the line that installs it otherwise."""
    try:
        from tblite import interface, library
    except ImportError as error:
        raise ImportError(INSTALL) from error
    return interface, library


def suitable(atoms: Tensor, position: Tensor) -> None:
    """Raise ``JudgeError`` for a molecule with an odd number of electrons, or with atoms that overlap."""
    if np.array(NUMBERS)[atoms.numpy()].sum() % 2:
        raise JudgeError("the number of electrons is odd")
    if len(atoms) > 1 and float(torch.nn.functional.pdist(position.double()).min()) < OVERLAP:
        raise JudgeError("two atoms overlap")


def _solved(numbers: np.ndarray, place: np.ndarray, field: np.ndarray | None = None) -> Any:
    """Return the result of one self-consistent calculation, in atomic units."""
    interface, library = require()
    try:
        calculator = interface.Calculator("GFN2-xTB", numbers, place, 0.0, 0)
        calculator.set("verbosity", 0)
        if field is not None:
            calculator.add("electric-field", library.ffi.new("double[3]", field.tolist()))
        return calculator.singlepoint()
    except (interface.TBLiteRuntimeError, interface.TBLiteValueError) as error:
        raise JudgeError(f"the calculation failed: {str(error).splitlines()[0]}") from error


def properties(atoms: Tensor, position: Tensor, names: Sequence[str] = PROPERTIES) -> dict[str, float]:
    """Compute properties of one molecule, as the method has them.

    Parameters
    ----------
    atoms : indices into ``data.ELEMENTS``, (N,)
    position : coordinates in Angstrom, (N, 3)
    names : some of ``PROPERTIES``; the polarizability takes seven times the work of the others

    Returns
    -------
    dict
        In ``data.UNITS``.

    Raises
    ------
    JudgeError
        For an odd number of electrons, atoms that overlap, and a calculation that does not converge.
    ImportError
        If tblite is missing; the message has the line that installs it.
    """
    suitable(atoms, position)
    numbers = np.array(NUMBERS)[atoms.numpy()]
    place = position.double().numpy() / BOHR
    result = _solved(numbers, place)
    energy, filled = result.get("orbital-energies"), result.get("orbital-occupations") > 1
    homo, lumo = (data.HARTREE * float(value) for value in (energy[filled].max(), energy[~filled].min()))
    made = {"homo": homo, "lumo": lumo, "gap": lumo - homo, "mu": DEBYE * math.hypot(*result.get("dipole"))}
    if "alpha" in names:
        made["alpha"] = _polarizability(numbers, place)
    return {name: made[name] for name in names}


def _polarizability(numbers: np.ndarray, place: np.ndarray) -> float:
    """Return a third of the trace of the polarizability, in Bohr^3."""
    dipoles = [[_solved(numbers, place, sign * axis).get("dipole") for sign in (FIELD, -FIELD)] for axis in np.eye(3)]
    return float(sum((up - down)[i] for i, (up, down) in enumerate(dipoles)) / (6 * FIELD))


@lru_cache(maxsize=1)
def lines() -> dict[str, dict[str, float]]:
    """Return the lines that translate to the labels' method, by property: slope, intercept, and the error left."""
    return dict(json.loads((WEIGHTS / "xtb.json").read_text())["lines"])


def predicted(atoms: Tensor, position: Tensor, name: str) -> float:
    """Return a property of one molecule, translated to the method of the labels; raises as ``properties`` does."""
    line = lines()[name]
    return line["intercept"] + line["slope"] * properties(atoms, position, (name,))[name]


def fit(count: int, atoms: int = ATOMS) -> dict[str, Any]:
    """Fit the lines to the first ``count`` molecules of the test part that have so many atoms.

    Returns
    -------
    dict
        The record, with the number of molecules that the method failed for.
    """
    test = data.part("test")
    indices = test.of_size(atoms)[:count]
    rows, failed = [], 0
    for label, types, position in zip(test.properties[indices], *test.stacked(indices), strict=True):
        try:
            made = properties(types, position)
        except JudgeError:
            failed += 1
            continue
        rows.append([[made[name], label[data.property_index(name)]] for name in PROPERTIES])
    fitted = {}
    for name, (x, y) in zip(PROPERTIES, np.array(rows).transpose(1, 2, 0), strict=True):
        slope, intercept = np.polyfit(x, y, 1)
        left = float(np.abs(intercept + slope * x - y).mean())
        fitted[name] = {"slope": float(slope), "intercept": float(intercept), "mae": left}
        fitted[name] |= {"correlation": float(np.corrcoef(x, y)[0, 1])}
    return {"molecules": len(rows), "failed": failed, "atoms": atoms, "method": "GFN2-xTB", "lines": fitted}


@options.in_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Fit the lines and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=options.count, default=FITTED, help="molecules of the fit")
    parser.add_argument("--atoms", type=options.count, default=ATOMS, help="the number of their atoms")
    parser.add_argument("--out", type=Path, default=WEIGHTS / "xtb.json", help="file of the lines")
    asked = parser.parse_args(arguments)
    results.write_json(asked.out, fit(asked.count, asked.atoms))
    print(json.dumps(json.loads(asked.out.read_text())["lines"], indent=2))


if __name__ == "__main__":
    main()
