"""The tables of experiments. The truth is experiments whose cells are the same."""

from importlib import metadata

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
