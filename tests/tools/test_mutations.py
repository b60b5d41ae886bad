"""The command that breaks the suite on purpose: its patches still fit the source, and it tells who survived.

Whether the tests notice is for the command itself, which takes long: ``python -m tests.tools.mutations``.
"""

import pytest

from tests.tools import mutations
from tests.tools.mistakes import EXPECTED, MISTAKES
from tests.tools.mutations import BROKEN, KILLED, ROOT, SURVIVED, mutated, try_patch
from tests.tools.patches import PATCHES, Patch


@pytest.mark.parametrize("name", PATCHES)
def test_a_patch_fits_the_source_and_has_tests(name):
    patch = PATCHES[name]
    source = (ROOT / patch.path).read_text(encoding="utf-8")
    changed = mutated(source, patch)
    assert changed != source
    compile(changed, patch.path, "exec")
    assert patch.tests
    assert all((ROOT / test.partition("::")[0]).exists() for test in patch.tests)


def test_every_mistake_of_the_ledger_is_expected_somewhere():
    assert EXPECTED.keys() == MISTAKES.keys()
    assert not MISTAKES.keys() & PATCHES.keys()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sums.py").write_text("def double(x):\n    return x + x\n")
    (tmp_path / "test_sums.py").write_text("from sums import double\n\n\ndef test_it():\n    assert double(2) == 4\n")
    return tmp_path


@pytest.mark.parametrize(
    ("new", "outcome"),
    [("x - x", KILLED), ("x * x", SURVIVED), ("x + ", BROKEN)],  # 2 * 2 is 2 + 2; the last is no Python
)
def test_a_patch_is_tried_and_taken_back(folder, new, outcome):
    before = (folder / "sums.py").read_text()
    assert try_patch(folder, Patch("sums.py", "x + x", new, ("test_sums.py",))).startswith(outcome)
    assert (folder / "sums.py").read_text() == before


def test_a_patch_of_code_that_is_gone_is_broken(folder):
    said = try_patch(folder, Patch("sums.py", "x / x", "x", ("test_sums.py",)))
    assert said.startswith(BROKEN)
    assert "0 times" in said


def test_the_exit_code_tells_of_a_survivor(folder, monkeypatch, capsys):
    patches = {"dies": ("x + x", "x"), "lives": ("x + x", "x * x")}
    table = {name: Patch("sums.py", *change, ("test_sums.py",)) for name, change in patches.items()}
    monkeypatch.setattr(mutations, "PATCHES", table)
    monkeypatch.setattr(
        mutations, "copy", lambda target: [(target / p.name).write_text(p.read_text()) for p in folder.glob("*.py")]
    )
    assert mutations.main(["dies"]) == 0
    assert mutations.main(["dies", "lives"]) == 1
    assert "1 of 2 mutations killed" in capsys.readouterr().out
    (folder / "test_sums.py").write_text("def test_it():\n    assert False\n")
    assert mutations.main(["dies"]) == 1


def test_a_name_that_no_mutation_has_is_refused(capsys):
    with pytest.raises(SystemExit):
        mutations.main(["no such thing"])
    assert "no mutation's name holds no such thing" in capsys.readouterr().err
