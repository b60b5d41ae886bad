"""The verb audit: its command line, files, words and figures, and how it resumes.

The truths are hashes of the bytes on disk, of a run that is interrupted and of one that is not, and what is printed;
facts in the report are recomputed from the tables.
"""

import hashlib
import json
import re
import sys

import pytest

import reproduce
from analysis import results
from analysis.audit import Audited, measure
from analysis.audit.advice import advice, best_lookahead
from analysis.audit.report import facts, words
from analysis.paths import CondOT
from analysis.provenance import ROOT
from figures import audit_lookahead
from tests.support.audits import Network, cells, options
from tests.support.problems import randn


def learned(device):
    assert device == "cpu"
    return Audited(Network(), randn(50, 2), path=CondOT())


@pytest.mark.parametrize("arguments", [["audit"], ["run", "m:f"], ["m:f"]])
def test_a_factory_goes_with_the_verb(arguments, capsys):
    with pytest.raises(SystemExit):
        reproduce.parse(arguments)
    assert "error: " in capsys.readouterr().err


def test_only_its_own_verb_makes_the_audit(capsys):
    assert reproduce.parse(["audit", "--quick", "m:f", "--times", "0.5"]).factory == "m:f"
    assert "audit_error" not in reproduce.selected(reproduce.parse(["check"]))
    with pytest.raises(SystemExit):
        reproduce.parse(["run", "audit_error"])
    assert "python reproduce.py audit" in capsys.readouterr().err


FIRST, SECOND = (f"{name}/audit/mine.factory" for name in ("first", "second"))
README = (ROOT / "README.md").read_text()
OWN = re.search(r"<!-- tested as mine.py -->\n```python\n(.*?)```", README, re.DOTALL)[1]
COMMAND = re.search(r"<!-- tested with mine.py -->\n```bash\npython reproduce.py (.*?)\n```", README)[1].split()


def hashes(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The audit of the README, by its command line, of a module in the current folder."""
    here = tmp_path_factory.mktemp("own")
    (here / "mine.py").write_text(OWN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setattr(sys, "path", sys.path[:])
        arguments = [*COMMAND, "--samples", "5", "--quick", "--jobs", "1"]
        assert reproduce.main([*arguments, "--out", "first"]) == 0
        yield here, arguments


def test_an_audit_writes_tables_figures_and_lines(made):
    out = made[0] / FIRST
    kinds = {f"audit_{name}.{kind}" for name in ("error", "lookahead") for kind in ("png", "txt")}
    assert {p.name for p in (out / "figures").iterdir()} == kinds
    stems = {"audit", "audit_lookahead", "audit_advice", "audit_best", "audit_fine", "audit_frontier", "audit_facts"}
    assert {p.stem for p in (out / "tables").iterdir()} == stems
    lines = (out / "audit.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["Doubtful:", "Greedy's", "Its", "The", "The", *["For"] * 5, "Quick"]
    assert "it looks like a model that is not trained on these data, or like" in lines[0]  # it is not
    table = results.read_table(out / "tables" / "audit.parquet").set_index(["t", "metric"])
    for t in (0.2, 0.8):
        assert f"{table.loc[(t, 'relative_error'), 'value']:.2g} at t = {t}" in lines[1]
    assert results.read_provenance(out / "tables" / "audit.parquet")["factory"] == "mine:factory"
    assert "figures/audit_error.png" in json.loads((out / "manifest.json").read_text())["files"]


def test_check_knows_the_tables_of_an_audit_and_what_they_were_made_with(made, capsys):
    names = ["check", "audit_error", "audit_lookahead", "--out", str(made[0] / FIRST)]
    assert reproduce.main([*names, "--quick"]) == 0
    assert "All 4 tables are there and current." in capsys.readouterr().out
    for other, said in ([], "quick True, not False"), (["--quick", "--seed", "3"], "seed 0, not 3"):
        assert reproduce.main([*names, *other]) == 1
        text = " ".join(capsys.readouterr().out.split())
        assert f"audit: the table was made with {said} audit_best: " in text
        assert "4 of 4 tables" in text


def test_an_audit_that_is_interrupted_resumes_to_the_same_bytes(made, monkeypatch):
    here, arguments = made
    measured, seen = measure.measure, []

    def interrupted(cell):
        if seen:
            raise KeyboardInterrupt
        seen.append(cell)
        return measured(cell)

    monkeypatch.setattr(measure, "measure", interrupted)
    assert reproduce.main([*arguments, "--out", "second"]) == 130
    (first,) = (here / SECOND / "cells").iterdir()
    stamp = first.stat().st_mtime_ns
    monkeypatch.setattr(measure, "measure", measured)
    assert reproduce.main([*arguments, "--out", "second"]) == 0
    assert first.stat().st_mtime_ns == stamp
    for room in ("tables", "figures"):
        assert hashes(here / SECOND / room) == hashes(here / FIRST / room)


def test_a_changed_model_is_measured_anew_and_other_times_are_not(monkeypatch):
    def keys(**changed):
        return [cell.key() for cell in cells(options(f"{__name__}:learned", **changed))]

    before = keys()
    assert keys() == before
    assert keys(times=[0.4, 0.6, 0.8])[::2] == before
    monkeypatch.setattr(Network.__init__, "__defaults__", (2, 1.50001))
    assert not set(keys()) & set(before)


def test_errors_that_are_not_reached_are_said_and_drawn(made):
    tables = {p.stem: results.read_table(p) for p in (made[0] / FIRST / "tables").glob("*.parquet")}
    for name in ("audit", "audit_lookahead"):
        tables[name] = tables[name].assign(wanted=1e-9)
    tables["audit_best"] = best_lookahead(tables["audit"], tables["audit_lookahead"])
    assert not tables["audit_best"]["reached"].any()
    tables["audit_advice"] = advice(tables["audit"], tables["audit_lookahead"])
    assert words(tables)[-1].startswith("For an error of 1e-09: more than was tried, whose least error is ")
    tables["audit_facts"] = facts(tables)
    assert "No gradient that was tried reaches a median relative error of 10⁻⁹" in audit_lookahead.answer(tables)
    audit_lookahead.draw(tables)


def test_the_best_lookahead_is_the_cheapest_within_the_error(made):
    tables = {p.stem: results.read_table(p) for p in (made[0] / FIRST / "tables").glob("*.parquet")}
    for row in tables["audit_best"].itertuples():
        tried = tables["audit_lookahead"][tables["audit_lookahead"]["t"] == row.t]
        greedy = tables["audit"].query("metric == 'relative_error' and t == @row.t")["value"].iloc[0]
        if greedy <= 0.05:
            assert (row.estimator, row.evaluations) == ("greedy", 1)
        else:
            assert row.evaluations == tried[tried["value"] <= 0.05]["evaluations"].min()
