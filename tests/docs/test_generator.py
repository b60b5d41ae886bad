"""The generated parts of the site. The truth is written by hand, or is the code's own registries and folders."""

import logging

import pytest

from analysis.gradients import ESTIMATORS
from analysis.paths import PATHS
from analysis.provenance import ROOT
from analysis.solvers import SOLVERS
from figures.style.names import GLOSSARY

griffe = pytest.importorskip("griffe", reason='griffe is not installed: pip install -e ".[docs]"')
pytest.importorskip("latex2mathml", reason='latex2mathml is not installed: pip install -e ".[docs]"')

from docs.generator import PARTS, docstrings, estimators, maths, reference  # noqa: E402
from docs.generator.markdown import linked, number, sentence, table  # noqa: E402


def test_formulas_become_code_of_their_own_language():
    text = "With :math:`x\n+ y` it is\n\n.. math:: a_1 = b,\n    \\quad c .\n\nand so on."
    expected = "With `#!math x + y` it is\n\n\n```math\na_1 = b,\n   \\quad c .\n```\n\n\nand so on."
    assert docstrings.markdown(text) == expected


def test_a_simple_table_becomes_one_of_markdown():
    text = "====  =====\nname  what\n====  =====\na     b | c\n      more\nd     e\n====  ====="
    text = text[: text.rindex("\n")] + "\n====  ====="
    assert docstrings.markdown(text) == "| name | what |\n| --- | --- |\n| a | b \\| c more |\n| d | e |"


def test_words_of_an_entry_go_below_its_name():
    text = "Do.\n\nParameters\n----------\nx, **t : a state\n    and a time\n\nThis is : a note.\n\n"
    text += "Raises\n------\nValueError : always"
    expected = (
        "Do.\n\nParameters\n----------\nx, **t\n    a state\n    and a time\n\nNotes\n-----\nThis is : a note.\n\n"
    )
    assert docstrings.markdown(text) == expected + "Raises\n------\nValueError\n    always"


def test_entries_without_words_are_no_note():
    text = "Do.\n\nReturns\n-------\nTensor\n    The sum.\n\nRaises\n------\nValueError\n    Always."
    assert docstrings.markdown(text) == text


def test_every_docstring_parses_without_a_warning(caplog):
    extensions = griffe.load_extensions(docstrings.Docstrings())

    def parse(item):
        if not item.is_alias:
            if item.docstring:
                item.docstring.parse("numpy")
            for member in item.members.values():
                parse(member)

    with caplog.at_level(logging.WARNING, logger="griffe"):
        for room in reference.ROOMS:
            parse(griffe.load(room, search_paths=[str(ROOT)], extensions=extensions))
    assert [record.getMessage() for record in caplog.records] == []


def test_aligned_formulas_are_aligned():
    assert maths.display(r"a &= b \\ c &= d", "math", "", {}, None).count("<mtr>") == 2
    assert maths.inline("x", "math", "", None) == maths.convert("x")


def test_the_reference_shows_every_module_once():
    shown = [line for pages in reference.pages().values() for _, text in pages for line in text.splitlines()]
    shown = sorted(line.removeprefix("::: ") for line in shown if line.startswith("::: "))
    files = [path.relative_to(ROOT).with_suffix("") for room in reference.ROOMS for path in (ROOT / room).rglob("*.py")]
    assert shown == sorted(".".join(p.parts).removesuffix(".__init__") for p in files)


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_asked_for_by_a_page(part):
    pages = (path.read_text() for path in (ROOT / "docs" / "pages").glob("*.md"))
    assert any(f"<!-- generated: {part} -->" in page for page in pages)


def test_the_parts_hold_all_that_the_registries_do():
    glossary = PARTS["glossary"]()
    assert all(f"`{key}`" in glossary for names in GLOSSARY.values() for key in names)
    assert all(f"`{key}`" in PARTS["estimators"]() for key in ESTIMATORS)
    assert all(f"`{key}`" in PARTS["paths"]() for key in PATHS)
    solvers = PARTS["solver-tableaux"]() + PARTS["solvers-of-their-own"]()
    assert all(f"`{key}`" in solvers for key in SOLVERS)


def test_costs_and_losses_of_estimators_are_those_of_their_definitions():
    rows = {row.split("`")[1]: row for row in estimators.estimators().splitlines()[2:]}
    assert "| any |  | 1 + 1 |" in rows["greedy"]
    assert "| any |" in rows["end_to_end"]
    assert "1 + 1 with `steps=1`, `solver='ddim'`<br>128 + 128 with `steps=32`, `solver='rk4'`" in rows["end_to_end"]
    assert "| Gaussian log-likelihood |" in rows["tmpd"]
    assert "1 + 2 |" in rows["tmpd"]  # min(m, d) products, and d = 2
    assert "| `data_variance=1.0` |" in rows["pigdm"]
    assert "| 1 + 0<br>8 + 0 with `steps=8` |" in rows["identity_jacobian"]  # no product, with whatever options


def test_pieces_of_markdown():
    assert table(("a", "b"), [(1, "|x|")]) == "| a | b |\n| --- | --- |\n| 1 | \\|x\\| |"
    assert linked("arXiv 2502.08006") == "[arXiv 2502.08006](https://arxiv.org/abs/2502.08006)"
    assert linked("a book") == "a book"
    assert number(float("-inf")) == "−∞"
    assert [sentence(text) for text in ("it is.", "α = t", "")] == ["It is", "α = t", ""]
