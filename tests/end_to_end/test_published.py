"""The published tables, and the pictures of README and gallery; the truth is what today's captions say of them."""

import pytest

import reproduce
from analysis import figure_files, results, suite

TABLES = sorted((reproduce.PUBLISHED / "tables").glob("*.parquet"))
GALLERY = reproduce.PUBLISHED.parent / "gallery"
MEGABYTES = 25


def test_the_theory_is_published_whole_and_is_small():
    needed = reproduce.tables_of(reproduce.selected(reproduce.parse(["check", "theory"])))
    assert {path.stem for path in TABLES} >= set(needed)
    assert sum(path.stat().st_size for path in TABLES) < MEGABYTES * 2**20


def test_without_names_the_published_figures_are_those_whose_tables_are_all_there(monkeypatch, tmp_path):
    everything = reproduce.selected(reproduce.parse(["draw", "--published"]))
    assert set(everything) > set(reproduce.selected(reproduce.parse(["draw"])))
    (tmp_path / "tables").mkdir()
    for name in ("greedy_error_facts", "memory"):
        (tmp_path / "tables" / f"{name}.parquet").touch()
    for name in reproduce.tables_of(["superconvergence"]):
        (tmp_path / "tables" / f"{name}.parquet").touch()
    monkeypatch.setattr(reproduce, "PUBLISHED", tmp_path)
    assert reproduce.selected(reproduce.parse(["draw", "--published"])) == {"superconvergence": "theory"}
    assert reproduce.selected(reproduce.parse(["check", "memory", "--published"])) == {"memory": "theory"}


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_a_published_table_is_whole_and_of_a_full_run_of_committed_code(path):
    """A table of a GPU's is of a tree that was carried there, of whose changes its digest says that they are here."""
    frame, about = results.read_with_provenance(path)
    full = {"quick": False, "dtype": "float64"}
    assert len(frame)
    assert (about["options"], about["seed"]) == (full, 0)
    assert len(about["commit"]) == 40
    assert not about["dirty"] or suite.out_of_date(path.stem, reproduce.PUBLISHED, full | {"seed": 0}) is None


@pytest.mark.parametrize("picture", sorted(GALLERY.glob("*.png")), ids=lambda path: path.stem)
def test_a_picture_of_the_gallery_has_the_caption_of_the_published_tables(picture):
    figure, tables, quick = figure_files.read(reproduce.PUBLISHED, f"figures.{picture.stem}")
    assert not quick
    assert picture.with_suffix(".txt").read_text() == f"{figure.QUESTION} {figure.answer(tables)}\n"


def test_published_tables_are_drawn_without_computing(tmp_path, capsys):
    arguments = ["draw", "greedy_error", "--published", "--jobs", "1", "--out", str(tmp_path)]
    assert reproduce.main(arguments) == 0
    assert capsys.readouterr().out.startswith("greedy_error: Its relative error falls as ζ to the power 2.00")
    assert not (tmp_path / "cells").exists()
    pdf = (tmp_path / "figures" / "greedy_error.pdf").read_bytes()
    assert b"/FontFile2" in pdf  # fonts are embedded as TrueType
    assert b"/Type3" not in pdf


def test_a_drawing_says_that_its_tables_are_of_other_code(tmp_path, capsys):
    for name in ("greedy_error", "greedy_error_slopes", "greedy_error_facts"):
        frame, about = results.read_with_provenance(reproduce.PUBLISHED / "tables" / f"{name}.parquet")
        results.write_table(frame, tmp_path / "tables" / f"{name}.parquet", about | {"code": "0" * 16})
    assert reproduce.main(["draw", "greedy_error", "--jobs", "1", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "3 of 3 tables drawn are of other code than today's" in " ".join(said.split())


def test_check_says_of_published_tables_whether_they_are_of_todays_code(capsys):
    code = reproduce.main(["check", "greedy_error", "--published"])
    said = " ".join(capsys.readouterr().out.split())
    assert ("tables are there and current" in said) if code == 0 else ("was made by other code" in said)
