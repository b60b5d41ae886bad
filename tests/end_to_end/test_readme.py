"""The README: its code runs, its links lead somewhere, and its commands are marked.

The truth is a new execution of each block as it is printed, and the files of the repository.
"""

import re

import pytest

from analysis.gradients import ESTIMATORS
from analysis.provenance import ROOT

TEXT = (ROOT / "README.md").read_text()
TESTED = re.findall(r"<!-- tested -->\n```python\n(.*?)```", TEXT, re.DOTALL)
AZULA = re.findall(r"<!-- tested with azula -->\n```python\n(.*?)```", TEXT, re.DOTALL)


def test_the_readme_has_code_to_test():
    assert len(TESTED) == 4


@pytest.mark.parametrize("code", TESTED, ids=range(len(TESTED)))
def test_the_readme_code_runs(code, capsys):
    known = set(ESTIMATORS)
    try:
        exec(compile(code, "README.md", "exec"), {})
        out = capsys.readouterr().out
        assert "greedy" in out or set(ESTIMATORS) - known == {"damped_greedy"}
    finally:
        for name in set(ESTIMATORS) - known:
            ESTIMATORS.pop(name)


def test_the_azula_block_runs(capsys):
    pytest.importorskip("azula")
    assert len(AZULA) == 1
    exec(compile(AZULA[0], "README.md", "exec"), {})
    assert "greedy" in capsys.readouterr().out


def test_measuring_ones_own_flow_takes_about_ten_lines():
    lines = [line for line in TESTED[0].splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(lines) <= 10


def test_the_two_commands_are_marked_for_ci():
    for tag, command in (("main-job", "python reproduce.py"), ("test-command", "pytest")):
        block = re.search(rf"<!-- {tag} -->\n```bash\n(.*?)```", TEXT, re.DOTALL)
        assert block is not None
        assert command in block.group(1)


def test_what_the_readme_links_to_is_there():
    for target in re.findall(r"\]\((?!http)([\w./-]+)\)", TEXT):
        assert (ROOT / target).exists(), target
