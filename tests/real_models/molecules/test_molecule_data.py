"""QM9 as arrays: what is read, what is refused, and how it is split and looked up.

Truths: a table of one molecule written by hand with the numbers as the package writes them, and sizes of the splits of
Hoogeboom et al. 2022.
"""

import numpy as np
import pytest
import torch

from real_models.molecules import data
from tests.support.molecules import molecules

HEADER = "Index,Elements,XYZ_Ang," + ",".join(data.COLUMNS.values())
PLACE = "[[0.,0.,1.2*^-6],[0.9577,0.,0.],[-0.24,0.9271,-3.*^-4]]"
WATER = f"\"['O','H','H']\",\"{PLACE}\",6.31,0.3615,-0.2928,0.0687,1.8511,6.002"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of three tables of one molecule each, and an empty cache."""
    (tmp_path / "data").mkdir()
    for name in data.PARTS:
        (tmp_path / "data" / name).write_text(f"{HEADER}\n1,{WATER}\n")
    monkeypatch.setenv("GUIDANCE_GRADIENTS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "_package", lambda: tmp_path / "data")
    data.load.cache_clear()
    yield tmp_path
    data.load.cache_clear()


def test_the_tables_are_read_once_with_the_numbers_of_mathematica(package, monkeypatch):
    whole = data.load()
    assert whole.sizes.tolist() == [3, 3, 3]
    assert whole.coordinates[:3].tolist() == [[0, 0, 0], [958, 0, 0], [-240, 927, 0]]
    assert whole.properties[0] == pytest.approx([6.31, 9836.9, -7967.5, 1869.4, 1.8511, 6.002], rel=1e-4)
    monkeypatch.setattr(data, "_package", lambda: pytest.fail("the cache was not used"))
    data.load.cache_clear()
    assert np.array_equal(data.load().atoms, whole.atoms)


def test_a_missing_package_gives_the_line_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setenv("GUIDANCE_GRADIENTS_CACHE", str(tmp_path))
    monkeypatch.setattr(data.importlib.util, "find_spec", lambda _: None)
    data.load.cache_clear()
    with pytest.raises(ImportError, match=r'pip install -e "\.\[molecules\]"'):
        data.load()


def test_parts_share_no_molecule_and_leave_none_out(monkeypatch):
    monkeypatch.setattr(data, "load", lambda: range(130_831))
    data.splits.cache_clear()
    parts = data.splits()
    data.splits.cache_clear()
    assert {name: len(rows) for name, rows in parts.items()} == {
        "evaluator": 50_000,
        "flow": 50_000,
        "test": 13_083,
        "validation": 17_748,
    }
    assert len(np.unique(np.concatenate(list(parts.values())))) == 130_831


def test_molecules_of_one_size_are_stacked_and_centred():
    whole = molecules()
    rows = whole.of_size(5)
    atoms, position = whole.stacked(rows)
    assert atoms.shape == (len(rows), 5)
    assert position.mean(1).abs().max() < 1e-6
    first = whole.starts[rows[0]]
    assert torch.equal(atoms[0], torch.from_numpy(whole.atoms[first : first + 5].astype(np.int64)))
    some = whole.select(rows[::-1])
    assert torch.equal(some.stacked(np.arange(len(rows)))[1], position.flip(0))


def test_bad_input_is_refused():
    whole = molecules()
    row = np.zeros(6)
    with pytest.raises(ValueError, match="property must be one of alpha, gap"):
        whole.labels(np.arange(2), "mass")
    with pytest.raises(ValueError, match="elements must be among H, C, N, O, F, got S"):
        data.collect([(["S", "H", "H"], np.zeros((3, 3)), row)])
    with pytest.raises(ValueError, match="at most 29 atoms, got one of 30"):
        data.collect([(["H"] * 30, np.zeros((30, 3)), row)])
    with pytest.raises(ValueError, match="a number of atoms that occurs"):
        whole.of_size(20)
    with pytest.raises(ValueError, match="one number of atoms"):
        whole.stacked(np.arange(10))
