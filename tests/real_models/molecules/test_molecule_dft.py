"""Properties by density functional theory. Truths: known energies of water and hydrogen, and finite differences.

Where a molecule is judged is tested with a judge that is replaced, so that pyscf is not needed for it.
"""

import builtins
import json
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

    def properties(atoms, position, wanted):
        width = float(position[1, 1])
        asked.append(width)
        if len(asked) == 2:
            raise xtb.JudgeError("the calculation did not converge in 100 cycles")
        values = VALUES | {"mu": width}
        return {name: values[name] for name in wanted}

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
            rows += [row | {"metric": "xtb_error", "molecule": None}]
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


def test_molecules_that_xtb_judged_come_in_pairs():
    """The first target's unguided molecule has no value by xTB: the second target of that property has two such."""
    table = made()
    lost = (table["estimator"] == "unguided") & (table["order"] == 0) & (table["metric"] == "xtb_error")
    table.loc[lost, "value"] = math.nan
    rows = dft.chosen(table, "source", ("greedy", "unguided"), 1)
    assert rows[["order", "estimator"]].to_numpy().tolist() == [[p, n] for p in (1, 2) for n in ("greedy", "unguided")]
    assert len(dft.chosen(table, "source", ("greedy", "unguided"), 2)) == 5
    slow = dft.chosen(table.replace({"property": {"mu": "alpha"}}), "source", ("greedy",), 3)
    assert slow["property"].tolist() == ["gap", "alpha", "alpha"]


def test_what_is_judged_is_kept_and_what_fails_is_a_row(judge, tmp_path, capsys):
    table, out = tmp_path / "molecules.parquet", tmp_path / "dft.json"
    results.write_table(made(), table, {})
    arguments = [str(table), "--out", str(out), "--estimators", "greedy", "--each"]
    dft.main([*arguments, "1"])
    first = dft.read(out)
    assert [row["status"] for row in first] == ["ok", "the calculation did not converge in 100 cycles"]
    assert [[row[name] is None for name in VALUES] for row in first] == [[True, *[False] * 4], [True] * 5]
    assert "2 molecules, 1 of those" in capsys.readouterr().out
    dft.main([*arguments, "2"])
    again = dft.read(out)
    assert len(judge) == 3  # one new molecule
    assert again[:2] == first
    assert [row["order"] for row in again] == [0, 2, 1]
    assert [row["mu"] for row in again[::2]] == pytest.approx([0.757, 0.833], abs=1e-3)
    assert json.loads(out.read_text())["basis"] == "6-31g(2df,p)"


def test_a_stopped_run_keeps_the_molecules_before(judge, tmp_path, monkeypatch):
    wanted, out = dft.chosen(made(), "source", ("greedy",), 2), tmp_path / "dft.json"
    rows = dft.judged(wanted, out)
    next(rows)
    rows.close()
    assert len(dft.read(out)) == 1
    assert len(list(dft.judged(wanted, out))) == 2
    assert len(dft.read(out)) == 3


def test_equal_molecules_are_judged_once(judge, tmp_path):
    wanted = pd.concat([dft.chosen(made(), "source", ("greedy",), 1).iloc[:1]] * 2).assign(order=[0, 5])
    first, second = dft.judged(wanted, tmp_path / "dft.json")
    assert len(judge) == 1
    assert (first["mu"], first["order"], second["order"]) == (second["mu"], 0, 5)


def test_a_polarizability_is_computed_where_it_is_the_target(judge, tmp_path):
    assert dft.needed("mu") == ("gap", "homo", "lumo", "mu")
    assert set(dft.needed("alpha")) == set(dft.needed("")) == set(xtb.PROPERTIES)
    table, out = made(1).assign(status="ok"), tmp_path / "dft.json"
    first = dft.chosen(table, "source", ("greedy",), 1)
    mu, alpha = dft.judged(pd.concat([first, first.assign(property="alpha", order=7)]), out)
    assert (mu["alpha"], mu["status"]) == (None, "ok")
    assert (alpha["order"], len(judge)) == (7, 2)  # what is known of a molecule does not answer for its polarizability
    only_mu = tmp_path / "mu.json"
    list(dft.judged(first, only_mu))
    assert dft.errors(table.assign(property="alpha"), only_mu).empty


def test_what_xtb_does_not_judge_is_not_chosen(judge):
    table = made()
    with pytest.raises(ValueError, match="no molecules of setting 'source' by greedy, judged by xTB"):
        dft.chosen(table[table["metric"] != "xtb_error"], "source", ("greedy",), 1)  # as of heat capacities


def test_judged_molecules_are_rows_of_errors_beside_those_of_the_other_judges(judge, tmp_path):
    table, out = made().assign(status="ok"), tmp_path / "dft.json"
    assert dft.errors(table, out).empty
    list(dft.judged(dft.chosen(table, "source", ("greedy",), 1), out))  # mu of the first text, and the third fails
    rows = dft.errors(table, out).set_index(["estimator", "budget", "order"])
    assert set(rows["metric"]) == {"dft_error"}
    assert rows.loc[("greedy", 384, 0), "value"] == pytest.approx(1 - 0.757, abs=1e-3)
    assert rows.loc[("greedy", 96, 1), "value"] == rows.loc[("greedy", 384, 0), "value"]  # the same molecule
    lost = rows.loc[("greedy", 384, 2)]
    assert (math.isnan(lost["value"]), lost["status"]) == (True, "the calculation did not converge in 100 cycles")
    out.write_text("{}")
    with pytest.raises(ValueError, match=r"dft\.json is no table of judged molecules"):
        dft.errors(table, out)


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
            dft.main(["--labels", "1", "--out", str(tmp_path / "x.json")])
    monkeypatch.setattr(dft, "require", lambda: None)
    with pytest.raises(SystemExit, match=r"none\.parquet is not there"):
        dft.main([str(tmp_path / "none.parquet"), "--out", str(tmp_path / "x.json")])
    with pytest.raises(SystemExit, match="2"):
        dft.main(["--out", str(tmp_path / "x.json")])
