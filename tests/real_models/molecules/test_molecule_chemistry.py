"""Bonds, stability, validity and shares.

Truths: molecules whose structure every textbook gives, at experimental geometries; intervals of Wilson by his formula.
"""

import builtins
import math

import pytest
import torch

from real_models.molecules import chemistry, data
from tests.support.molecules import molecules

HYDROGEN, CARBON, NITROGEN, OXYGEN, FLUORINE = range(5)
METHANE = [
    [0.0, 0, 0],
    [0.629, 0.629, 0.629],
    [-0.629, -0.629, 0.629],
    [-0.629, 0.629, -0.629],
    [0.629, -0.629, -0.629],
]
WATER = [[0.0, 0, 0], [0.9572, 0, 0], [-0.24, 0.9266, 0]]
HYDROGEN_CYANIDE = [[0.0, 0, 0], [1.064, 0, 0], [2.22, 0, 0]]
CARBON_DIOXIDE = [[-1.162, 0, 0], [0.0, 0, 0], [1.162, 0, 0]]
CASES = {
    "[H]C([H])([H])[H]": ([CARBON, HYDROGEN, HYDROGEN, HYDROGEN, HYDROGEN], METHANE),
    "[H]O[H]": ([OXYGEN, HYDROGEN, HYDROGEN], WATER),
    "[H]C#N": ([HYDROGEN, CARBON, NITROGEN], HYDROGEN_CYANIDE),
    "O=C=O": ([OXYGEN, CARBON, OXYGEN], CARBON_DIOXIDE),
}


def tensors(atoms, position):
    return torch.tensor([atoms]), torch.tensor([position])


@pytest.mark.parametrize("smiles", CASES)
def test_textbook_molecules_are_stable_and_valid(smiles):
    pytest.importorskip("rdkit")
    judged = chemistry.judge(*tensors(*CASES[smiles]))
    assert judged.smiles == [smiles]
    assert judged.stable == judged.sizes == [len(CASES[smiles][0])]
    assert judged.connected == [True]


def test_orders_of_bonds_are_symmetric_and_no_atom_is_bonded_to_itself():
    orders = chemistry.bonds(*tensors(*CASES["[H]C#N"]))[0]
    assert orders.tolist() == [[0, 1, 0], [1, 0, 3], [0, 3, 0]]


def test_a_bond_ends_where_its_length_and_margin_do():
    for apart, order in ((1.639, 1), (1.641, 0), (1.389, 2), (1.391, 1), (1.229, 3), (1.231, 2)):
        orders = chemistry.bonds(*tensors([CARBON, CARBON], [[0.0, 0, 0], [apart, 0, 0]]))
        assert orders[0, 0, 1] == order, apart


def test_broken_molecules_are_told_from_whole_ones():
    pytest.importorskip("rdkit")
    far = [*WATER, [8.0, 0, 0]]
    lost = chemistry.judge(*tensors([OXYGEN, HYDROGEN, HYDROGEN, HYDROGEN], far))
    assert lost.smiles == ["[H]O[H]"]
    assert lost.connected == [False]
    assert lost.stable == [3]
    crowded = chemistry.judge(*tensors([FLUORINE, HYDROGEN, HYDROGEN], WATER))  # a fluorine of two bonds
    assert crowded.smiles == [None]


def test_shares_count_what_they_say():
    judged = chemistry.Judgement([3, 3, 1, 5], [3, 3, 3, 5], ["O", "O", None, "C"], [True, False, True, True])
    values = {name: value[0] for name, value in chemistry.shares(judged, {"C"}).items()}
    expected = {"atom_stability": 12 / 14, "molecule_stability": 3 / 4, "validity": 3 / 4, "valid_and_connected": 1 / 2}
    assert values == pytest.approx(expected | {"uniqueness": 2 / 3, "novelty": 1 / 2})


def test_intervals_are_those_of_wilson():
    share, low, high = chemistry.wilson(30, 40)
    z = 1.959964
    middle, spread = 0.75 + z**2 / 80, z * math.sqrt(0.75 * 0.25 / 40 + z**2 / (4 * 40**2))
    assert (share, low, high) == pytest.approx(
        (0.75, (middle - spread) / (1 + z**2 / 40), (middle + spread) / (1 + z**2 / 40))
    )
    assert math.isnan(chemistry.wilson(0, 0)[0])


def test_the_tables_are_symmetric_and_shorter_for_higher_orders():
    limits = chemistry._limits()
    assert torch.equal(limits, limits.transpose(1, 2))
    assert bool((limits[0] > 0).all())
    assert bool(((limits[1:] < limits[:-1]) | (limits[:-1] == 0)).all())
    assert len(chemistry.VALENCIES) == len(data.ELEMENTS)


def test_without_rdkit_the_line_that_installs_it_is_given(monkeypatch):
    plain = builtins.__import__

    def missing(name, *rest):
        if name.startswith("rdkit"):
            raise ImportError(name)
        return plain(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r'pip install -e "\.\[molecules\]"'):
        chemistry.judge(*tensors(*CASES["[H]O[H]"]))


def test_a_part_of_the_data_is_judged_once(tmp_path, monkeypatch):
    pytest.importorskip("rdkit")
    monkeypatch.setenv("GUIDANCE_GRADIENTS_CACHE", str(tmp_path))
    monkeypatch.setattr(data, "part", lambda name: molecules(5))
    first = chemistry.judge_part("test")
    monkeypatch.setattr(data, "part", lambda name: pytest.fail("it was judged again"))
    assert chemistry.judge_part("test") == first
    assert sorted(first.sizes) == sorted(molecules(5).sizes.tolist())
