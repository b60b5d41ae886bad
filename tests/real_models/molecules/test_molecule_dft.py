"""Properties by density functional theory. Truths: known energies of water and hydrogen, and finite differences.

Where a molecule is judged is tested with a judge that is replaced, so that pyscf is not needed for it.
"""

import builtins
import math

import numpy as np
import pandas as pd
import pytest
import torch

from analysis import results
from real_models.molecules import data, dft, judging, xtb
from real_models.molecules.flow import encode

WATER = [[0.0, 0, 0.1173], [0, 0.7572, -0.4692], [0, -0.7572, -0.4692]]
TEXTS = [judging.text(encode("OHH", np.array(WATER) * scale))[0] for scale in (1.0, 1.1, 1.2)]
VALUES = {"alpha": 5.0, "gap": 9000.0, "homo": -8000.0, "lumo": 1000.0, "mu": 2.0}


@pytest.fixture
def judge(monkeypatch):
    """A judge that knows the width of the molecule, fails for the second one, and lists what it was asked."""
    asked = []

    def properties(atoms, position):
        width = float(position[1, 1])
        asked.append(width)
        if len(asked) == 2:
            raise xtb.JudgeError("the calculation did not converge in 100 cycles")
        return VALUES | {"mu": width}

    monkeypatch.setattr(dft, "properties", properties)
    monkeypatch.setattr(dft, "require", lambda: None)
    monkeypatch.setattr(dft, "versions", dict)
    return asked


def made(count=3):
    """Molecules as the experiment writes them: two estimators, of which one has two budgets."""
    rows = []
    for name, budget, shift in (("greedy", 96, 2), ("greedy", 384, 0), ("unguided", 32, 1)):
        for i in range(count):
            row = {"setting": "source", "estimator": name, "budget": budget, "order": i, "wanted": 1.0}
            row |= {"property": "mu" if i < 2 else "gap", "molecule": TEXTS[(i + shift) % 3], "value": 0.5}
            rows += [row | {"metric": "error"}, row | {"metric": "stable", "molecule": None}]
    return pd.DataFrame(rows)


def test_the_first_targets_of_every_property_are_chosen_at_the_largest_budget():
    rows = dft.chosen(made(), "source", ("greedy", "unguided"), 1)
    assert rows[["order", "estimator", "budget"]].to_numpy().tolist() == [
        [0, "greedy", 384],
        [0, "unguided", 32],
        [2, "greedy", 384],
        [2, "unguided", 32],
    ]
    with pytest.raises(ValueError, match="no molecules of setting 'controls' by greedy"):
        dft.chosen(made(), "controls", ("greedy",), 1)
    with pytest.raises(ValueError, match="no molecules of setting"):
        dft.chosen(pd.DataFrame({"value": [1.0]}), "source", ("greedy",), 1)


def test_what_is_judged_is_kept_and_what_fails_is_a_row(judge, tmp_path, capsys):
    table, out = tmp_path / "molecules.parquet", tmp_path / "dft.parquet"
    results.write_table(made(), table, {})
    arguments = [str(table), "--out", str(out), "--estimators", "greedy", "--each"]
    dft.main([*arguments, "1"])
    first = results.read_table(out)
    assert first["status"].tolist() == ["ok", "the calculation did not converge in 100 cycles"]
    assert first[[*VALUES]].isna().all(axis=1).tolist() == [False, True]
    assert "2 molecules, 1 of those" in capsys.readouterr().out
    dft.main([*arguments, "2"])
    again = results.read_table(out)
    assert len(judge) == 3  # one new molecule
    pd.testing.assert_frame_equal(again.iloc[:2], first)
    assert again["order"].tolist() == [0, 2, 1]
    assert again["mu"].tolist()[::2] == pytest.approx([0.757, 0.833], abs=1e-3)
    assert results.read_provenance(out)["basis"] == "6-31g(2df,p)"


def test_a_stopped_run_keeps_the_molecules_before(judge, tmp_path, monkeypatch):
    wanted, out = dft.chosen(made(), "source", ("greedy",), 2), tmp_path / "dft.parquet"
    rows = dft.judged(wanted, out)
    next(rows)
    rows.close()
    assert len(results.read_table(out)) == 1
    assert len(list(dft.judged(wanted, out))) == 2
    assert len(results.read_table(out)) == 3


def test_equal_molecules_are_judged_once(judge, tmp_path):
    wanted = pd.concat([dft.chosen(made(), "source", ("greedy",), 1).iloc[:1]] * 2).assign(order=[0, 5])
    first, second = dft.judged(wanted, tmp_path / "dft.parquet")
    assert len(judge) == 1
    assert (first["mu"], first["order"], second["order"]) == (second["mu"], 0, 5)


def test_molecules_of_the_data_come_with_their_labels(monkeypatch):
    part = data.collect([(["O", "H", "H"], np.array(WATER), np.arange(6.0))] * 3)
    monkeypatch.setattr(data, "part", lambda name: part)
    rows = dft.labelled(2, 3)
    assert len(rows) == 2
    assert rows["label_homo"].tolist() == [2.0, 2.0]
    atoms, position = judging.read(rows["molecule"].iloc[0])
    assert atoms.tolist() == [3, 0, 0]
    by_hand = torch.tensor(WATER).double() - torch.tensor(WATER[0]).double()
    torch.testing.assert_close(position - position[0], by_hand, rtol=0, atol=2e-3)


def test_a_missing_package_and_a_missing_table_end_with_one_line(monkeypatch, tmp_path):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name.startswith("pyscf"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    with monkeypatch.context() as inside:
        inside.setattr(builtins, "__import__", without)
        with pytest.raises(SystemExit, match=r'needs pyscf: pip install -e "\.\[dft\]"'):
            dft.main(["--labels", "1", "--out", str(tmp_path / "x.parquet")])
    monkeypatch.setattr(dft, "require", lambda: None)
    with pytest.raises(SystemExit, match=r"none\.parquet is not there"):
        dft.main([str(tmp_path / "none.parquet"), "--out", str(tmp_path / "x.parquet")])
    with pytest.raises(SystemExit, match="2"):
        dft.main(["--out", str(tmp_path / "x.parquet")])


def test_what_no_calculation_is_begun_for():
    with pytest.raises(xtb.JudgeError, match="the number of electrons is odd"):
        dft.properties(torch.tensor([0]), torch.zeros(1, 3))
    with pytest.raises(xtb.JudgeError, match="two atoms overlap"):
        dft.properties(torch.tensor([0, 0]), torch.zeros(2, 3))


@pytest.fixture
def pyscf(monkeypatch):
    """The method's module, without the files of intermediate states, which are left open."""
    scf = pytest.importorskip("pyscf.scf.hf", reason=dft.INSTALL)
    monkeypatch.setattr(scf, "MUTE_CHKFILE", True)
    return pytest.importorskip("pyscf.dft", reason=dft.INSTALL)


def test_hydrogen_has_no_dipole_and_the_polarizability_of_a_finite_field(pyscf):
    place = np.array([[0.0, 0, 0.7], [0, 0, -0.7]])
    calculation = dft.solved(np.array([1, 1]), place)
    integrals, core = calculation.mol.intor_symmetric("int1e_r", comp=3), calculation.get_hcore()
    trace = 0.0
    for axis in range(3):
        dipoles = []
        for field in (1e-3, -1e-3):
            moved = pyscf.RKS(calculation.mol, xc=dft.METHOD).density_fit()
            moved.grids.level, moved.verbose, moved.conv_tol = dft.GRID, 0, 1e-11
            moved.get_hcore = lambda *_, h=core + field * integrals[axis]: h
            moved.kernel()
            dipoles.append(moved.dip_moment(unit="AU", verbose=0)[axis])
        trace += (dipoles[0] - dipoles[1]) / 2e-3
    assert dft.polarizability(calculation) == pytest.approx(trace / 3, rel=1e-3)
    made = dft.properties(torch.tensor([0, 0]), torch.from_numpy(place) * xtb.BOHR)
    assert made["mu"] < 1e-3
    assert made["gap"] == pytest.approx(made["lumo"] - made["homo"])


def test_a_calculation_that_does_not_converge_has_no_value(pyscf, monkeypatch):
    monkeypatch.setattr(dft, "CYCLES", 1)
    with pytest.raises(xtb.JudgeError, match="did not converge in 1 cycles"):
        dft.properties(*judging.read(TEXTS[0]))


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

    monkeypatch.setattr(dft, "require", lambda: (Package, Package, None))
    with pytest.raises(xtb.JudgeError, match=r"the calculation failed: singular$"):
        dft.properties(*judging.read(TEXTS[0]))
    assert math.isnan(dft._values(TEXTS[0])["mu"])
