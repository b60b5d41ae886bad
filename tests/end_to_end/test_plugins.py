"""A user's own experiment, figure, path and solver, from a module in the current folder, by the command line.

The truth is in the user's module itself: a table of numbers that no other code makes.
"""

import sys

import pytest
import torch

import reproduce
from analysis import registration, results
from analysis.paths import PATHS, CondOT
from analysis.solvers import SOLVERS

OWN = """
import pandas as pd

from analysis import registration
from analysis.experiment import Cell
from analysis.paths import PATHS, UserPath
from analysis.solvers import SOLVERS, runge_kutta
from analysis.solvers.tableaux import Tableau

PATHS["squared"] = lambda: UserPath(lambda t: t**2, lambda t: 1 - t**2)
SOLVERS["euler_again"] = runge_kutta(Tableau(c=(0.0,), a=((),), b=(1.0,), order=1), "t")
registration.EXPERIMENTS["own_table"] = registration.FIGURES["own_work"] = "own_work"

TABLES, QUESTION = ("own_table",), "How large are they?"


def cells(options):
    return [Cell(measure="own_work:measure", problem=name, path="squared") for name in ("a", "b")]


def measure(cell):
    return pd.DataFrame([{"problem": cell.problem, "value": float(PATHS[cell.path]().alpha(0.5)) + FACTOR}])


class Answer:
    def __call__(self, tables):
        return "They are %s." % tables["own_table"]["value"].tolist()

    def headline(self, tables):
        return "As large as that."


answer = Answer()


def draw(tables):
    from figures import style

    figure, (ax,) = style.panels(1, 1, 2)
    ax.plot(tables["own_table"]["value"])
    return figure


FACTOR = 0.0
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "own_work.py").write_text(OWN)
    yield tmp_path
    for known, name in ((PATHS, "squared"), (SOLVERS, "euler_again"), (registration.EXPERIMENTS, "own_table")):
        known.pop(name, None)
    registration.FIGURES.pop("own_work", None)
    sys.modules.pop("own_work", None)


def test_a_users_experiment_and_figure_are_made_by_name(own):
    assert reproduce.main(["run", "own_work", "--plugin", "own_work", "--out", "out", "--jobs", "1"]) == 0
    table = results.read_table(own / "out" / "tables" / "own_table.parquet")
    assert table["value"].tolist() == [0.25, 0.25]
    assert (own / "out" / "figures" / "own_work.pdf").is_file()
    planned = SOLVERS["euler_again"].coefficients(CondOT(), torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    assert planned.times[0].tolist() == [0.0, 0.5]


def test_an_edit_of_the_users_module_is_noticed(own):
    command = ["compute", "own_work", "--plugin", "own_work", "--out", "out", "--jobs", "1"]
    assert reproduce.main(command) == 0
    (own / "own_work.py").write_text(OWN.replace("FACTOR = 0.0", "FACTOR = 1.0 "))
    sys.modules.pop("own_work")
    assert reproduce.main(command) == 0
    assert results.read_table(own / "out" / "tables" / "own_table.parquet")["value"].tolist() == [1.25, 1.25]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("FIGURES", "must define TABLES, QUESTION, answer, draw, and lacks TABLES, QUESTION, answer, draw"),
        ("EXPERIMENTS", "must define cells, and lacks cells"),
    ],
)
def test_a_plugin_that_lacks_a_part_is_an_error_that_names_it(entry, message, tmp_path, monkeypatch, capsys):
    name = f"half_{entry.lower()}"
    (tmp_path / f"{name}.py").write_text(f"from analysis.registration import {entry}\n{entry}['{name}'] = '{name}'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.setattr(registration, entry, dict(getattr(registration, entry)))
    with pytest.raises(SystemExit):
        reproduce.main(["list", "--plugin", name])
    assert f"argument --plugin: module '{name}' {message}" in capsys.readouterr().err


def test_a_plugin_that_is_not_there_is_an_error_that_names_it(own, capsys):
    with pytest.raises(SystemExit):
        reproduce.main(["list", "--plugin", "nowhere"])
    assert "argument --plugin: No module named 'nowhere'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"),
    [("fails", "fails cannot be imported: RuntimeError: why (fails.py:2)"), ("fails.py", "name, without .py")],
)
def test_a_plugin_that_fails_is_an_error_that_names_its_line(name, said, tmp_path, monkeypatch, capsys):
    (tmp_path / "fails.py").write_text("X = 1\nraise RuntimeError('why')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    with pytest.raises(SystemExit):
        reproduce.main(["list", "--plugin", name])
    assert said in capsys.readouterr().err
