"""Properties by GFN2-xTB. Truths: the symmetry of methane, that of space, and the arithmetic of the fitted line.

Water's dipole is known: 1.85 D (measured), which the method meets within a third.
"""

import builtins
import types

import pytest
import torch

from real_models.molecules import data, xtb

METHANE = [[0.0, 0, 0], [0.63, 0.63, 0.63], [-0.63, -0.63, 0.63], [-0.63, 0.63, -0.63], [0.63, -0.63, -0.63]]
WATER = [[0.0, 0, 0.117], [0, 0.757, -0.469], [0, -0.757, -0.469]]


def molecule(elements, position):
    return torch.tensor(data.element_indices(elements)), torch.tensor(position, dtype=torch.float64)


@pytest.fixture
def tblite():
    return pytest.importorskip("tblite.interface", reason=xtb.INSTALL)


def test_methane_has_no_dipole_and_water_has_its_own(tblite):
    methane = xtb.properties(*molecule("CHHHH", METHANE))
    assert methane["mu"] < 1e-4
    assert methane["gap"] == pytest.approx(methane["lumo"] - methane["homo"])
    assert methane["homo"] < 0 < methane["alpha"]
    assert xtb.properties(*molecule("OHH", WATER), ("mu",))["mu"] == pytest.approx(1.85, rel=0.33)


def test_a_turned_molecule_has_the_same_properties(tblite):
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    atoms, position = molecule("OHH", WATER)
    plain, turned = xtb.properties(atoms, position), xtb.properties(atoms, position @ turn)
    assert {name: pytest.approx(value, rel=1e-3) for name, value in plain.items()} == turned


def test_a_prediction_lies_on_the_fitted_line(tblite):
    atoms, position = molecule("OHH", WATER)
    line = xtb.lines()["homo"]
    own = xtb.properties(atoms, position, ("homo",))["homo"]
    assert xtb.predicted(atoms, position, "homo") == pytest.approx(line["intercept"] + line["slope"] * own)


def test_the_lines_leave_less_than_the_data_vary():
    spread = {"alpha": 3.5, "gap": 881, "homo": 431, "lumo": 789, "mu": 1.11}  # of molecules with 18 atoms
    assert all(xtb.lines()[name]["mae"] < 0.6 * value for name, value in spread.items())
    assert all(line["correlation"] > 0.8 for line in xtb.lines().values())


def test_what_has_no_value_says_why(tblite, monkeypatch):
    with pytest.raises(xtb.JudgeError, match="the number of electrons is odd"):
        xtb.properties(*molecule("CHHH", METHANE[:4]))
    with pytest.raises(xtb.JudgeError, match="two atoms overlap"):
        xtb.properties(*molecule("HH", [[0.0, 0, 0], [0.1, 0, 0]]))

    def failing(*arguments):
        raise tblite.TBLiteRuntimeError("SCF not converged in 250 cycles\nmore")

    monkeypatch.setattr(tblite, "Calculator", failing)
    with pytest.raises(xtb.JudgeError, match=r"the calculation failed: SCF not converged in 250 cycles$"):
        xtb.properties(*molecule("OHH", WATER))


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name.startswith("tblite"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'needs tblite: pip install -e "\.\[molecules\]"'):
        xtb.require()


def test_lines_are_fitted_to_labels(monkeypatch):
    """The method is replaced by labels times two plus one, so the line must be half of that less a half."""
    labels = torch.rand(6, 6, generator=torch.Generator().manual_seed(0)).numpy() + 1
    atoms, position = torch.zeros(6, 3, dtype=torch.long), torch.zeros(6, 3, 3)
    part = types.SimpleNamespace(of_size=lambda n: list(range(6)), stacked=lambda rows: (atoms, position))
    part.properties = labels
    monkeypatch.setattr(data, "part", lambda name: part)
    monkeypatch.setattr(part, "of_size", lambda n: torch.arange(6).numpy())
    rows = iter(labels)

    def twice(atoms, position, names=xtb.PROPERTIES):
        label = next(rows)
        if label is labels[2] or (label == labels[2]).all():
            raise xtb.JudgeError("lost")
        return {name: 2 * label[data.property_index(name)] + 1 for name in xtb.PROPERTIES}

    monkeypatch.setattr(xtb, "properties", twice)
    record = xtb.fit(6)
    assert (record["molecules"], record["failed"]) == (5, 1)
    for line in record["lines"].values():
        assert line["slope"] == pytest.approx(0.5, abs=1e-5)
        assert line["intercept"] == pytest.approx(-0.5, abs=1e-4)
        assert line["mae"] < 1e-4
