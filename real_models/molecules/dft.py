"""Properties of molecules by density functional theory at the level of QM9's labels (extra ``dft``), as the last judge.

B3LYP, in the form that Gaussian has it, in the basis 6-31G(2df,p), by ``pyscf`` with density fitting, for a molecule in
the geometry that it was made in; HOMO, LUMO, gap and dipole from the orbitals, the polarizability from the response of
these to a field (coupled-perturbed Kohn-Sham). The heat capacity would need vibrations, which a geometry that is no
minimum does not have, and is not judged. A molecule takes minutes:

    python -m real_models.molecules.dft results/tables/molecules.parquet --out dft.parquet --each 4
    python -m real_models.molecules.dft --labels 3 --out labels.parquet

The first judges the molecules of the first four targets of every property by the named estimators at a setting's
largest budget, the second molecules of the data, whose labels are known. The table is written after every molecule, and
the same command goes on with those that are not in it. A molecule without a value is a row with the reason.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis import checks, provenance, results
from analysis.tables import only
from real_models.molecules import data, judging
from real_models.molecules.network import event
from real_models.molecules.targets import ATOMS
from real_models.molecules.xtb import BOHR, DEBYE, NUMBERS, PROPERTIES, JudgeError, suitable

METHOD, BASIS, GRID = "b3lypg", "6-31g(2df,p)", 2
CYCLES = 100
INSTALL = 'Judging molecules by density functional theory needs pyscf: pip install -e ".[dft]"'
ESTIMATORS = ("unguided", "greedy", "end_to_end")
KEY = ["setting", "estimator", "budget", "order"]
PLACE = [*KEY, "property", "wanted"]


def require() -> tuple[Any, Any, Any]:
    """Return ``gto``, ``dft`` and ``scf.cphf`` of pyscf; raises ``ImportError`` with the line that installs it."""
    try:
        from pyscf import dft, gto
        from pyscf.scf import cphf
    except ImportError as error:
        raise ImportError(INSTALL) from error
    return gto, dft, cphf


def solved(numbers: np.ndarray, place: np.ndarray) -> Any:
    """Return the converged calculation of nuclei (N,) at places (N, 3) in Bohr; raises ``JudgeError`` without one."""
    gto, dft, _ = require()
    atoms = list(zip(numbers.tolist(), place.tolist(), strict=True))
    mol = gto.M(atom=atoms, basis=BASIS, unit="Bohr", verbose=0)
    calculation = dft.RKS(mol, xc=METHOD).density_fit()
    calculation.grids.level, calculation.max_cycle = GRID, CYCLES
    try:
        calculation.kernel()
    except (np.linalg.LinAlgError, RuntimeError, ValueError) as error:
        raise JudgeError(f"the calculation failed: {str(error).splitlines()[0]}") from error
    if not calculation.converged:
        raise JudgeError(f"the calculation did not converge in {CYCLES} cycles")
    return calculation


def polarizability(calculation: Any) -> float:
    """Return a third of the trace of the polarizability, in Bohr^3, by coupled-perturbed Kohn-Sham equations."""
    (*_, cphf), mol = require(), calculation.mol
    filled = calculation.mo_occ > 0
    inside, outside = calculation.mo_coeff[:, filled], calculation.mo_coeff[:, ~filled]
    dipole = np.einsum("xpq,pa,qi->xai", mol.intor_symmetric("int1e_r", comp=3), outside, inside)
    response = calculation.gen_response(hermi=1)

    def induced(orbitals: np.ndarray) -> np.ndarray:
        density = np.einsum("xai,pa,qi->xpq", 2 * orbitals.reshape(-1, *dipole.shape[1:]), outside, inside)
        potential = response(density + density.transpose(0, 2, 1))
        return np.einsum("xpq,pa,qi->xai", potential, outside, inside).reshape(len(density), -1)

    moved = cphf.solve(induced, calculation.mo_energy, calculation.mo_occ, dipole, verbose=0)[0]
    return float(-4 / 3 * np.einsum("xai,xai", dipole, moved.reshape(dipole.shape)))


def properties(atoms: Tensor, position: Tensor) -> dict[str, float]:
    """Compute the properties of one molecule.

    Parameters
    ----------
    atoms : indices into ``data.ELEMENTS``, (N,)
    position : coordinates in Angstrom, (N, 3)

    Returns
    -------
    dict
        Those of ``xtb.PROPERTIES``, in ``data.UNITS``.

    Raises
    ------
    JudgeError
        For an odd number of electrons, atoms that overlap, and a calculation that does not converge.
    ImportError
        If pyscf is missing; the message has the line that installs it.
    """
    suitable(atoms, position)
    calculation = solved(np.array(NUMBERS)[atoms.numpy()], position.double().numpy() / BOHR)
    energy, filled = calculation.mo_energy, calculation.mo_occ > 0
    homo, lumo = (data.HARTREE * float(value) for value in (energy[filled].max(), energy[~filled].min()))
    made = {"homo": homo, "lumo": lumo, "gap": lumo - homo, "alpha": polarizability(calculation)}
    made["mu"] = math.hypot(*calculation.dip_moment(unit="AU", verbose=0)) * DEBYE
    return {name: made[name] for name in PROPERTIES}


def chosen(table: pd.DataFrame, setting: str, estimators: Sequence[str], each: int) -> pd.DataFrame:
    """Choose molecules of a table of the experiment ``molecules``: the first ``each`` targets of every property.

    Returns
    -------
    DataFrame
        A row per target and estimator, each at its largest budget in that setting.

    Raises
    ------
    ValueError
        For a table without molecules of that setting and these estimators.
    """
    made = only(table, metric="error") if "molecule" in table else table.iloc[:0]
    made = made[(made["setting"] == setting) & made["estimator"].isin(estimators)] if len(made) else made
    if made.empty:
        raise ValueError(f"the table has no molecules of setting {setting!r} by {', '.join(estimators)}")
    made = made[made["budget"] == made.groupby("estimator")["budget"].transform("max")]
    firsts = made.groupby("property")["order"].unique().map(lambda orders: sorted(orders)[:each])
    part = made[[row["order"] in firsts[row["property"]] for row in made[["property", "order"]].to_dict("records")]]
    return part[[*PLACE, "molecule"]].sort_values(["order", "estimator"], ignore_index=True)


def labelled(count: int, n: int = ATOMS) -> pd.DataFrame:
    """Return the first ``count`` molecules of n atoms in the test part, with their labels (``label_alpha``, ...)."""
    test = data.part("test")
    rows = test.of_size(n)[:count]
    texts = judging.text(event(*test.stacked(rows)))
    place = {"setting": "data", "estimator": "data", "budget": 0, "property": "", "wanted": math.nan}
    frame = pd.DataFrame({"order": rows, "molecule": texts}).assign(**place)
    labels = {f"label_{name}": test.labels(rows, name).numpy().astype(float) for name in PROPERTIES}
    return frame.assign(**labels)


def judged(wanted: pd.DataFrame, path: Path) -> Iterator[dict[str, Any]]:
    """Judge the molecules of a table that are not in the table at ``path``, and write that after each of them.

    Yields
    ------
    dict
        The row of each: what ``wanted`` says of it, its status, and ``xtb.PROPERTIES``, empty without a value.
    """
    rows = results.read_table(path).to_dict("records") if path.exists() else []
    ready = {(row["molecule"], *(row[name] for name in KEY)) for row in rows}
    for row in wanted.to_dict("records"):
        if (row["molecule"], *(row[name] for name in KEY)) in ready:
            continue
        same = [one for one in rows if one["molecule"] == row["molecule"]]
        made = {name: same[0][name] for name in ("status", *PROPERTIES)} if same else _values(row["molecule"])
        rows.append({str(name): value for name, value in row.items()} | made)
        about = provenance.provenance("cpu", 0) | {"method": METHOD, "basis": BASIS, "versions": versions()}
        results.write_table(pd.DataFrame(rows), path, about, csv=False)
        yield rows[-1]


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide the values."""
    return provenance.versions(("pyscf", "numpy", "scipy"))


def _values(written: str) -> dict[str, Any]:
    try:
        return {"status": "ok"} | properties(*judging.read(written))
    except JudgeError as error:
        return {"status": str(error)} | dict.fromkeys(PROPERTIES, math.nan)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, nargs="?", help="the table of the experiment molecules")
    parser.add_argument("--labels", type=int, help="judge so many molecules of the data instead")
    parser.add_argument("--out", type=Path, required=True, help="the table that is written")
    parser.add_argument("--setting", default="source", help="source, guidance or controls (default: source)")
    parser.add_argument("--estimators", nargs="+", default=ESTIMATORS, help=f"(default: {' '.join(ESTIMATORS)})")
    parser.add_argument("--atoms", type=int, default=ATOMS, help="the number of atoms of those of the data")
    parser.add_argument("--each", type=int, default=4, help="targets of every property (default: 4)")
    options = parser.parse_args(arguments)
    if (options.table is None) == (options.labels is None):
        parser.error("name a table of molecules, or --labels")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge molecules, and print each and the number of those without a value; ``SystemExit`` without pyscf."""
    options = parse(arguments)
    torch.set_num_threads(1)
    try:
        require()
        if options.labels is not None:
            wanted = labelled(checks.count("labels", options.labels), options.atoms)
        else:
            table = results.read_table(options.table)
            wanted = chosen(table, options.setting, options.estimators, checks.count("each", options.each))
        for row in judged(wanted, options.out):
            values = ", ".join(f"{name} {row[name]:.5g}" for name in PROPERTIES)
            print(f"{row['estimator']}, target {row['order']}: {values if row['status'] == 'ok' else row['status']}")
    except (ImportError, ValueError, FileNotFoundError) as error:
        raise SystemExit(f"error: {error}") from error
    lost = int((results.read_table(options.out)["status"] != "ok").sum())
    print(f"{len(wanted)} molecules, {lost} of those in {options.out} without a value")


if __name__ == "__main__":
    main()
