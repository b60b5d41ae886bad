"""What pages say of claims and the command line. The truth is the statements, the parsers and the sources."""

import re

import pytest

from analysis.claims import STATEMENTS
from analysis.command_line import VERBS
from analysis.provenance import ROOT
from analysis.suite import SUITES

pytest.importorskip("latex2mathml", reason='latex2mathml is not installed: pip install -e ".[docs]"')

from docs.generator import command, ledger

PAGES = {path.stem: path.read_text() for path in (ROOT / "docs" / "pages").glob("*.md")}
SOURCES = [path for room in ("analysis", "real_models", "toy_models") for path in (ROOT / room).rglob("*.py")]


def test_every_claim_has_words_and_a_section():
    assert list(ledger.words()) == list(STATEMENTS)
    sections = re.findall(r"^## (\S+)$", ledger.ledger(), re.MULTILINE)
    assert sections == list(STATEMENTS)


def test_the_ledger_names_readings_and_their_cases():
    d7 = ledger.ledger().split("## D7")[1]
    assert "**does not hold as printed**" in d7
    assert "- instead: O(h<sup>p</sup>)" in d7
    assert "14 of 14 cases pass" in d7


def test_spelled_mathematics_is_set():
    assert ledger.symbols("x1hat(x^(n)) -> x_1*, dPhi") == "x̂₁(x<sup>n</sup>) → x<sub>1</sub>\\*, dΦ"
    assert ledger.symbols("A zeta_s^2 + |n^-p| <= 1") == "A ζ<sub>s</sub><sup>2</sup> + &#124;n<sup>−p</sup>&#124; ≤ 1"


def test_every_verb_and_suite_is_there():
    verbs = command.verbs()
    assert re.findall(r"^### (\w+)$", verbs, re.MULTILINE) == list(VERBS)
    assert "| `--backend loky\\|dask` |" in verbs
    assert "| `--quick` |" in verbs
    assert all(f"`{name}`" in command.suites() for name in SUITES)


def test_the_messages_that_are_explained_are_in_the_code():
    """Each part of a quoted message between its ellipses stands in a source, with the joints of its strings removed."""
    text = " ".join(re.sub(r'"\s*f?"|\{[^{}]*\}', "", path.read_text()) for path in [*SOURCES, ROOT / "reproduce.py"])
    quoted = re.findall(r"^`(.+)`(?: \(a warning\))?$", PAGES["errors"], re.MULTILINE)
    messages = [part for line in quoted for part in line.split("`, `")]
    parts = [part.strip() for message in messages for part in re.split(r"…|\.\.\.|\bN of M\b|'…'|torch\.\w+", message)]
    missing = [part for part in parts if part and re.sub(r"\s+", " ", part) not in re.sub(r"\s+", " ", text)]
    assert len(messages) > 20
    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_python_that_is_quoted_compiles(page):
    for block in re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL):
        assert compile(block, page, "exec").co_filename == page


def test_the_result_in_a_minute_runs(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", PAGES["index"], re.DOTALL)
    exec(compile(block, "index.md", "exec"), {})
    errors = [float(error) for error in re.findall(r"median error (\S+),", capsys.readouterr().out)]
    assert errors == sorted(errors, reverse=True)
    assert len(errors) == 3
