"""This project beside files of a user's that have the names of its packages.

The truth is what a new interpreter does in such a folder: exit code, and what it prints.
"""

import os
import subprocess
import sys

import pytest

import analysis
import reproduce
from analysis.provenance import ROOT


def run(folder, *command):
    """Run Python in a folder, with this project on its path behind the folder itself."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    options = {"cwd": folder, "env": environment, "capture_output": True, "text": True}
    return subprocess.run([sys.executable, *command], **options, timeout=120)


@pytest.mark.parametrize("own", ["figures/__init__.py", "analysis.py"])
def test_a_package_that_is_hidden_is_an_error_in_one_line(tmp_path, own):
    (tmp_path / own).parent.mkdir(exist_ok=True)
    (tmp_path / own).write_text("")
    done = run(tmp_path, "-m", "reproduce", "list")
    assert done.returncode == 1
    assert done.stdout == ""
    room = own.partition("/")[0].removesuffix(".py")
    place = tmp_path / (room if "/" in own else own)
    assert done.stderr.startswith(f"error: {place} hides the package {room!r} of guidance-gradients: run the command")
    assert done.stderr.count("\n") == 1


def test_a_folder_without_an_init_hides_a_package_that_is_found_behind_it(tmp_path, monkeypatch):
    """As an editable installation finds this project: by a finder behind all that are on the path."""
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "plot.py").write_text("")
    path = [str(tmp_path), *(place for place in sys.path if place not in ("", str(ROOT)))]
    monkeypatch.setattr(sys, "path", path)
    for name in [n for n in sys.modules if n.split(".")[0] == "figures"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.chdir(tmp_path)
    assert reproduce._hidden(("figures",)).startswith(f"{tmp_path / 'figures'} hides the package 'figures'")


def test_nothing_is_hidden_here():
    assert reproduce._hidden() is None


def test_the_version_is_said(capsys):
    with pytest.raises(SystemExit):
        reproduce.main(["--version"])
    assert capsys.readouterr().out.strip().endswith(f" {analysis.__version__}")
    assert f"version: {analysis.__version__}" in (ROOT / "CITATION.cff").read_text().splitlines()


LIGHT = """
import sys, analysis
assert "torch" not in sys.modules
assert {"flow", "gradients", "audit"} <= set(dir(analysis))
assert analysis.flow.from_velocity and "torch" in sys.modules
try:
    analysis.nothing
except AttributeError as error:
    assert "has no attribute 'nothing'" in str(error)
else:
    raise AssertionError
"""


def test_modules_of_the_library_are_there_after_its_import(tmp_path):
    done = run(tmp_path, "-c", LIGHT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("room", ["analysis", "toy_models", "real_models", "figures"])
def test_every_package_says_that_it_is_typed(room):
    assert (ROOT / room / "py.typed").is_file()


def test_a_missing_numba_is_said_once_whatever_the_number_of_workers(tmp_path):
    """A package of its name that cannot be imported stands for the missing one; every worker would meet it."""
    (tmp_path / "numba.py").write_text("raise ImportError('no numba')\n")
    done = run(tmp_path, "-m", "reproduce", "compute", "lookahead_surface", "--quick", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("without numba") == 1
