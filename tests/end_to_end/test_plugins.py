"""A user's own experiment, figure, path and solver, from a module in the current folder, by the command line.

The truth is in the user's module itself: a table of numbers that no other code makes.
"""

import sys

import pytest
import torch

import reproduce
from analysis import catalogue, registration, results
from analysis.paths import PATHS, CondOT
from analysis.solvers import SOLVERS
from tests.support.command import command

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


BROKEN = {
    "fails": ("X = 1\nraise RuntimeError('why')", "fails cannot be imported: RuntimeError: why (fails.py:2)"),
    "fails.py": ("", "name, without .py"),
    "leaves": ("raise SystemExit(3)", "leaves cannot be imported: SystemExit: 3 (leaves.py:1)"),
    "spells": ("def (", "spells cannot be imported: SyntaxError: invalid syntax (spells.py, line 1)"),
    "needs": ("import no_such_package", "No module named 'no_such_package' (needs.py:1)"),
    "enters_broken": ("ENTER['broken'] = 'broken'", "broken cannot be imported: ZeroDivisionError: division by zero"),
    "enters_itself": ("ENTER['mine'] = registration", "'mine' must be entered as the name of its module, got module"),
    "no_function": ("ENTER['mine'] = __name__\ncells = 3", "cells of module 'no_function' must be a function of the"),
    "no_suite": (
        "ENTER['mine'] = __name__\nSUITE = 'theoryy'\ncells = print",
        "SUITE of experiment 'mine' must be one of theory, guidance, images, molecules, got 'theoryy'",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_plugin_that_fails_or_enters_what_cannot_be_is_an_error_that_names_it(name, tmp_path, monkeypatch, capsys):
    source, said = BROKEN[name]
    head = "from analysis import registration; ENTER = registration.EXPERIMENTS; "
    (tmp_path / f"{name.removesuffix('.py')}.py").write_text(source.replace("ENTER", f"{head}ENTER", 1))
    (tmp_path / "broken.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.setattr(registration, "EXPERIMENTS", registration.EXPERIMENTS.copy())
    monkeypatch.setattr(catalogue, "EXPERIMENTS", registration.EXPERIMENTS)
    with pytest.raises(SystemExit) as stopped:
        reproduce.main(["list", "--plugin", name])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


FIGURE = {
    "TABLES = 'own_table'": "TABLES of module 'own_work' must be a tuple of names, such as ('mine',), got 'own_table'",
    "answer = lambda tables: ''": "answer of module 'own_work' must be a figures.style.Caption, or have its headline",
    "draw = 3": "draw of module 'own_work' must be a function of the tables, got 3",
}


@pytest.mark.parametrize("line", FIGURE)
def test_a_figure_with_a_part_of_another_kind_is_refused_before_anything_is_measured(line, own, capsys):
    (own / "own_work.py").write_text(f"{OWN}\n{line}\n")
    with pytest.raises(SystemExit):
        reproduce.main(["run", "own_work", "--plugin", "own_work", "--out", "out"])
    assert FIGURE[line] in capsys.readouterr().err
    assert not (own / "out").exists()


LAST = len(OWN.splitlines()) + 1
# A last line of the module, and what is said of it; a line that fails is named, also of another process.
FAILING = {
    "cells = lambda options: None": "own_work.py: TypeError: cells(options) must return a list of at least one Cell",
    "cells = lambda options: []": "own_work.py: TypeError: cells(options) must return a list of at least one Cell",
    "cells = lambda options: [1]": "own_work.py: TypeError: cells(options) must return a list of at least one Cell",
    "cells = lambda options: 1 / 0": f"own_work.py:{LAST}: ZeroDivisionError: division by zero",
    "del measure": "own_work.py: ValueError: 'own_work:measure' must name an importable module:attribute",
    "measure = lambda cell: None": "own_work:measure: ValueError: the measure of own_work:measure has returned no rows",
    "measure = lambda cell: {}['b']": f"own_work.py:{LAST}: KeyError: 'b'",
    "measure = lambda cell: open('no')": f"own_work.py:{LAST}: FileNotFoundError: [Errno 2] No such file",
    "derive = lambda table: None": "own_work.py: AttributeError: 'NoneType' object has no attribute 'items'",
    "write = lambda derived, out: 1 / 0": f"own_work.py:{LAST}: ZeroDivisionError: division by zero",
    "draw = lambda tables: None": "own_work.py: TypeError: draw(tables) must return a matplotlib figure, got NoneType",
    "draw = lambda tables: 1 / 0": f"own_work.py:{LAST}: ZeroDivisionError: division by zero",
}


@pytest.mark.parametrize("line", FAILING)
def test_a_users_module_that_fails_in_a_run_is_one_line_that_names_it(line, own, capsys):
    (own / "own_work.py").write_text(f"{OWN}{line}\n")
    assert reproduce.main(["run", "own_work", "--plugin", "own_work", "--out", "out", "--jobs", "1"]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: {FAILING[line]}")


def test_a_line_that_fails_in_another_process_is_named(own):
    (own / "own_work.py").write_text(f"{OWN}measure = lambda cell: 1 / 0\n")
    done = command("compute", "own_work", "--plugin", "own_work", "--out", "out", "--jobs", "2", cwd=own)
    assert done.returncode == 1
    assert done.stderr.decode() == f"error: own_work.py:{LAST}: ZeroDivisionError: division by zero\n"
