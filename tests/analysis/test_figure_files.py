"""What one figure leaves on disk; the truth is the bytes of its files, and a figure written here."""

import sys
from types import ModuleType

import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis import figure_files, results


@pytest.fixture
def module(monkeypatch):
    figure = ModuleType("line")
    figure.TABLES, figure.QUESTION = ("line", "line_facts"), "How steep is it?"
    figure.answer = lambda tables: f"Its slope is {tables['line_facts']['slope'][0]:g}."
    figure.latex = lambda tables: {"line_points": f"{len(tables['line'])} points"}

    def draw(tables):
        drawing = Figure()
        drawing.add_subplot().plot(tables["line"]["x"])
        return drawing

    figure.draw = draw
    monkeypatch.setitem(sys.modules, "drawings.line", figure)
    return figure


@pytest.fixture
def out(tmp_path):
    results.write_table(pd.DataFrame({"x": [0.0, 2.0]}), tmp_path / "tables" / "line.parquet", {})
    results.write_table(pd.DataFrame({"slope": [2.0]}), tmp_path / "tables" / "line_facts.parquet", {})
    return tmp_path


def test_a_figure_its_caption_and_its_printed_table_are_written_and_repeat(module, out):
    assert figure_files.write(out, "drawings.line") == "Its slope is 2."
    names = {"line.pdf", "line.png", "line.txt"}
    first = {name: (out / "figures" / name).read_bytes() for name in names}
    assert {path.name for path in (out / "figures").iterdir()} == names
    assert first["line.pdf"].startswith(b"%PDF")
    assert first["line.png"].startswith(b"\x89PNG")
    assert first["line.txt"] == b"How steep is it? Its slope is 2.\n"
    assert (out / "tables" / "line_points.tex").read_text() == "2 points"
    figure_files.write(out, "drawings.line")
    assert {name: (out / "figures" / name).read_bytes() for name in names} == first


def test_a_table_that_is_not_there_is_named_and_nothing_is_written(module, out):
    (out / "tables" / "line_facts.parquet").unlink()
    with pytest.raises(FileNotFoundError, match="line_facts"):
        figure_files.write(out, "drawings.line")
    assert not (out / "figures").exists()
