"""Properties of a molecule by density functional theory at the level of QM9's labels (extra ``dft``).

B3LYP, in the form that Gaussian has it, in the basis 6-31G(2df,p), by ``pyscf`` with density fitting, for a molecule in
the geometry that it was made in; HOMO, LUMO, gap and dipole from the orbitals, the polarizability from the response of
these to a field (coupled-perturbed Kohn-Sham). The heat capacity would need vibrations, which a geometry that is no
minimum does not have, and is not computed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from real_models.molecules import data
from real_models.molecules.xtb import BOHR, DEBYE, NUMBERS, PROPERTIES, JudgeError, suitable

METHOD, BASIS, GRID = "b3lypg", "6-31g(2df,p)", 2
CYCLES, TOLERANCE = 100, 1e-7  # of the energy, in Hartree; orbitals are then known to less than a meV
RESPONSE_TOLERANCE = 1e-5  # of the equations for the polarizability, which 1e-9 changes by less than 0.001 Bohr^3
RESPONSE = ("alpha",)  # what needs these equations: most of a molecule's time
INSTALL = 'Judging molecules by density functional theory needs pyscf: pip install -e ".[dft]"'


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
    calculation.grids.level, calculation.max_cycle, calculation.conv_tol = GRID, CYCLES, TOLERANCE
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

    moved = cphf.solve(induced, calculation.mo_energy, calculation.mo_occ, dipole, tol=RESPONSE_TOLERANCE, verbose=0)[0]
    return float(-4 / 3 * np.einsum("xai,xai", dipole, moved.reshape(dipole.shape)))


def properties(atoms: Tensor, position: Tensor, wanted: Sequence[str] = PROPERTIES) -> dict[str, float]:
    """Compute properties of one molecule.

    Parameters
    ----------
    atoms : indices into ``data.ELEMENTS``, (N,)
    position : coordinates in Angstrom, (N, 3)
    wanted : some of ``xtb.PROPERTIES``; without those of ``RESPONSE`` it takes a quarter of the time

    Returns
    -------
    dict
        The wanted properties, in ``data.UNITS``.

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
    made = {"homo": homo, "lumo": lumo, "gap": lumo - homo}
    made["mu"] = math.hypot(*calculation.dip_moment(unit="AU", verbose=0)) * DEBYE
    if set(RESPONSE) & set(wanted):
        made["alpha"] = polarizability(calculation)
    return {name: made[name] for name in wanted}
