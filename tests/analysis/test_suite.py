"""The tables of experiments. The truth is experiments whose cells are the same."""

from importlib import metadata

import pytest

from analysis import suite
from analysis.settings import Options
from analysis.workers import Workers
from toy_models.experiments import regime_references


def test_the_time_of_cells_that_experiments_share_is_counted_once(tmp_path):
    both = {"regime_references": regime_references, "regime_references_again": regime_references}
    seconds = suite.make(both, Options(quick=True), tmp_path, Workers(jobs=1))
    assert seconds["regime_references"] > 0
    assert seconds["regime_references_again"] == 0


def test_a_table_records_the_versions_of_the_packages_that_are_there():
    about = suite.record(Options(), [], ("pandas", "no_such_package"))
    assert about["versions"]["pandas"] == metadata.version("pandas")
    assert "no_such_package" not in about["versions"]


def test_a_table_that_was_shipped_without_its_cells_is_continued(tmp_path):
    options, known = Options(quick=True), {"regime_references": regime_references}
    suite.make(known, options, tmp_path / "first", Workers(jobs=1))
    tables, again = tmp_path / "first" / "tables", tmp_path / "again"
    restored = suite.restore("regime_references", regime_references, options, tables, again / "cells", 8.0)
    assert restored == len(regime_references.cells(options))
    assert suite.make(known, options, again, Workers(jobs=1)) == {"regime_references": pytest.approx(8.0)}
    for path in tables.glob("*.parquet"):
        assert path.read_bytes() == (again / "tables" / path.name).read_bytes()


def test_rows_of_other_cells_are_not_restored(tmp_path):
    known = {"regime_references": regime_references}
    suite.make(known, Options(quick=True), tmp_path, Workers(jobs=1))
    other = Options(quick=True, seed=1)
    assert suite.restore("regime_references", regime_references, other, tmp_path / "tables", tmp_path / "other") == 0
    assert not (tmp_path / "other").exists()
    with pytest.raises(FileNotFoundError):
        suite.restore("regimes", regime_references, other, tmp_path / "tables", tmp_path / "other")
