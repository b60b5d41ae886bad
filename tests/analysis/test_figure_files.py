"""What one figure leaves on disk; the truth is the bytes of its files, and a figure written here."""

import sys
from types import ModuleType

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from analysis import figure_files, results
from analysis.workers import Workers
from figures.style import Caption


@pytest.fixture
def module(monkeypatch):
    figure = ModuleType("line")
    figure.TABLES, figure.QUESTION = ("line", "line_facts"), "How steep is it?"
    figure.answer = Caption("Its slope is {slope:g}.", "A line is drawn.")
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
    figure_files.write(out, "drawings.line")
    names = {"line.pdf", "line.png", "line.txt"}
    first = {name: (out / "figures" / name).read_bytes() for name in names}
    assert {path.name for path in (out / "figures").iterdir()} == names
    assert first["line.pdf"].startswith(b"%PDF")
    assert first["line.png"].startswith(b"\x89PNG")
    assert first["line.txt"] == b"How steep is it? Its slope is 2. A line is drawn.\n"
    assert (out / "tables" / "line_points.tex").read_text() == "2 points"
    figure_files.write(out, "drawings.line")
    assert {name: (out / "figures" / name).read_bytes() for name in names} == first


def test_a_picture_of_many_colours_is_stored_with_few_that_look_the_same(module, out, monkeypatch):
    monkeypatch.setitem(mpl.rcParams, "figure.constrained_layout.use", False)  # which a figure before may have set

    def draw(tables):
        drawing = Figure(figsize=(4, 4))
        ax = drawing.add_axes((0, 0, 1, 1))
        ax.imshow(np.add.outer(np.arange(100), np.arange(100)), cmap="viridis", interpolation="bilinear")
        ax.plot([20, 20], [80, 20], color="red")
        drawing.savefig(out / "whole.png")
        return drawing

    module.draw = draw
    figure_files.write(out, "drawings.line")
    small, whole = Image.open(out / "figures" / "line.png"), Image.open(out / "whole.png")
    assert len(small.getcolors()) <= 256
    assert small.info["dpi"] == whole.info["dpi"]
    apart = np.abs(np.asarray(small.convert("RGB"), int) - np.asarray(whole.convert("RGB"), int))
    assert apart.mean() < 2
    assert np.percentile(apart, 99.9) < 24
    assert len(whole.convert("RGB").getcolors(1 << 24)) > 256
    assert 3 * (out / "figures" / "line.png").stat().st_size < 2 * (out / "whole.png").stat().st_size


def test_a_table_that_is_not_there_is_named_and_nothing_is_written(module, out):
    (out / "tables" / "line_facts.parquet").unlink()
    with pytest.raises(FileNotFoundError, match="line_facts"):
        figure_files.write(out, "drawings.line")
    assert not (out / "figures").exists()


def test_the_report_is_told_the_answer_in_short_and_whole(module, out):
    entry = figure_files.write(out, "drawings.line", "theory")
    assert (entry.name, entry.suite, entry.question, entry.headline) == (
        "line",
        "theory",
        "How steep is it?",
        "Its slope is 2.",
    )
    assert entry.caption == "Its slope is 2. A line is drawn."
    assert (entry.tables, entry.quick) == (("line", "line_facts"), False)


def test_a_quick_table_is_told_in_the_caption_and_has_no_pdf(module, out):
    figure_files.write(out, "drawings.line")
    about = {"options": {"quick": True}}
    results.write_table(pd.DataFrame({"x": [0.0, 2.0]}), out / "tables" / "line.parquet", about)
    figure_files.write(out, "drawings.line")
    assert (out / "figures" / "line.txt").read_text().startswith("Quick run: How steep")
    assert {path.name for path in (out / "figures").iterdir()} == {"line.png", "line.txt"}  # the full run's is gone
    entry = figure_files.write(out, "drawings.line", "theory")
    assert entry.quick
    assert entry.caption.startswith("Quick run: Its slope")


def test_many_are_written_and_entered_in_the_order_that_was_asked_for(module, out, monkeypatch):
    monkeypatch.setitem(sys.modules, "drawings.another", module)
    entries = figure_files.write_all(out, {"drawings.line": "theory", "drawings.another": ""}, Workers(jobs=1))
    assert [(entry.name, entry.suite) for entry in entries] == [("line", "theory"), ("another", "")]
    assert (out / "figures" / "another.pdf").stat().st_size == (out / "figures" / "line.pdf").stat().st_size
