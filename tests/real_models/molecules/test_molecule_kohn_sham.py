"""Properties by density functional theory. Truths: the symmetry of hydrogen, and finite differences of its dipole."""

import numpy as np
import pytest
import torch

from real_models.molecules import kohn_sham, xtb

WATER = torch.tensor([3, 0, 0]), torch.tensor([[0.0, 0, 0.1173], [0, 0.7572, -0.4692], [0, -0.7572, -0.4692]])


def test_what_no_calculation_is_begun_for():
    with pytest.raises(xtb.JudgeError, match="the number of electrons is odd"):
        kohn_sham.properties(torch.tensor([0]), torch.zeros(1, 3))
    with pytest.raises(xtb.JudgeError, match="two atoms overlap"):
        kohn_sham.properties(torch.tensor([0, 0]), torch.zeros(2, 3))


@pytest.fixture
def pyscf(monkeypatch):
    """The method's module, without the files of intermediate states, which are left open."""
    scf = pytest.importorskip("pyscf.scf.hf", reason=kohn_sham.INSTALL)
    monkeypatch.setattr(scf, "MUTE_CHKFILE", True)
    return pytest.importorskip("pyscf.dft", reason=kohn_sham.INSTALL)


def test_hydrogen_has_no_dipole_and_the_polarizability_of_a_finite_field(pyscf):
    place = np.array([[0.0, 0, 0.7], [0, 0, -0.7]])
    calculation = kohn_sham.solved(np.array([1, 1]), place)
    integrals, core = calculation.mol.intor_symmetric("int1e_r", comp=3), calculation.get_hcore()
    trace = 0.0
    for axis in range(3):
        dipoles = []
        for field in (1e-3, -1e-3):
            moved = pyscf.RKS(calculation.mol, xc=kohn_sham.METHOD).density_fit()
            moved.grids.level, moved.verbose, moved.conv_tol = kohn_sham.GRID, 0, 1e-11
            moved.get_hcore = lambda *_, h=core + field * integrals[axis]: h
            moved.kernel()
            dipoles.append(moved.dip_moment(unit="AU", verbose=0)[axis])
        trace += (dipoles[0] - dipoles[1]) / 2e-3
    assert kohn_sham.polarizability(calculation) == pytest.approx(trace / 3, rel=1e-3)
    made = kohn_sham.properties(torch.tensor([0, 0]), torch.from_numpy(place) * xtb.BOHR)
    assert made["mu"] < 1e-3
    assert made["gap"] == pytest.approx(made["lumo"] - made["homo"])


def test_a_calculation_that_does_not_converge_has_no_value(pyscf, monkeypatch):
    monkeypatch.setattr(kohn_sham, "CYCLES", 1)
    with pytest.raises(xtb.JudgeError, match="did not converge in 1 cycles"):
        kohn_sham.properties(*WATER)


def test_only_one_line_is_kept_of_what_a_failing_method_says(monkeypatch):
    class Failing:
        def __init__(self, *arguments, **options):
            self.grids = self

        def density_fit(self):
            return self

        def kernel(self):
            raise np.linalg.LinAlgError("singular\nmore")

    class Package:
        RKS = Failing

        @staticmethod
        def M(**options):
            return None

    monkeypatch.setattr(kohn_sham, "require", lambda: (Package, Package, None))
    with pytest.raises(xtb.JudgeError, match=r"the calculation failed: singular$"):
        kohn_sham.properties(*WATER)
