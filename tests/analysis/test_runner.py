"""Cells on disk: what is believed, and what is measured again.

The truth is the rows that the measures of this file return, and how often they are called.
"""

import dataclasses
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import results, runner, sources
from analysis.experiment import Cell
from analysis.runner import Code, WorkersError, fill, run
from analysis.workers import Workers
from tests.support.damage import KINDS, damage

ONE = Workers(jobs=1)


def measure(cell):
    """Return two rows, and leave a mark of each call beside ``cell.path``."""
    with open(cell.path, "a") as file:
        file.write(f"{cell.problem}\n")
    return pd.DataFrame({"problem": cell.problem, "value": [float(len(cell.problem)), cell.seed / 3]})


def nothing(cell):
    return pd.DataFrame()


@pytest.fixture
def cells(tmp_path):
    path = str(tmp_path / "calls")
    return [Cell(measure=f"{__name__}:measure", problem=name, path=path) for name in ("a", "bb", "ccc")]


def calls(cells):
    path = Path(cells[0].path)
    found = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return found


def test_finished_cells_are_found_again_and_rows_are_in_the_order_of_cells(cells, tmp_path):
    first = run(cells, tmp_path / "cells", ONE)
    assert calls(cells) == ["a", "bb", "ccc"]
    assert first["problem"].tolist() == ["a", "a", "bb", "bb", "ccc", "ccc"]
    pd.testing.assert_frame_equal(
        run(cells[::-1], tmp_path / "cells", ONE), pd.concat([first[4:], first[2:4], first[:2]], ignore_index=True)
    )
    assert calls(cells) == []


@pytest.mark.parametrize("kind", [*KINDS, "another cell", "older", "other code", "no rows"])
def test_a_bad_cell_is_measured_again_with_a_notice(cells, tmp_path, kind, capsys, monkeypatch):
    monkeypatch.setattr(runner.time, "process_time", lambda: 0.0)  # a busy machine would change the seconds of a cell
    store = tmp_path / "cells"
    files = fill(cells, store, ONE)
    whole, _ = files[1].read_bytes(), calls(cells)
    if kind == "another cell":
        files[1].write_bytes(files[0].read_bytes())
    elif kind in ("other code", "no rows"):  # whole files that a run of today does not write
        frame, about = results.read_with_provenance(files[1])
        if kind == "other code":
            about |= {"code": "other"}
        results.write_table(frame[:0] if kind == "no rows" else frame, files[1], about, csv=False)
    elif kind == "older":  # a cell without key and checksum
        pq.write_table(pa.table({"problem": ["bb"], "value": [2.0]}), files[1])
    else:
        damage(files[1], kind)
    capsys.readouterr()
    fill(cells, store, ONE)
    assert calls(cells) == ["bb"]
    (notice,) = capsys.readouterr().err.strip().splitlines()
    assert notice.startswith(str(files[1]))
    assert notice.endswith("measured again")
    assert files[1].read_bytes() == whole


def test_a_cell_of_other_code_is_another_cell(cells, tmp_path, monkeypatch):
    fill(cells, tmp_path / "cells", ONE)
    calls(cells)
    monkeypatch.setattr(sources.Sources, "closure", lambda self, names: sources.Closure("other", (), ()))
    monkeypatch.setattr(runner, "_known", {})  # as in a new process
    fill(cells, tmp_path / "cells", ONE)
    assert calls(cells) == ["a", "bb", "ccc"]


def test_a_cell_holds_its_key_its_spec_and_the_code_that_ran(cells, tmp_path):
    (file,) = fill(cells[:1], tmp_path / "cells", ONE)
    about = results.read_provenance(file)
    assert about["key"] == cells[0].key() == file.stem
    assert about["code"] == cells[0].closure().digest
    assert about["cell"]["problem"] == "a"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"digest": "other"}, "a worker's copy of the sources is not the one here"),
        ({"versions": {"torch": "1.0"}}, "a worker has python None, and here it is"),
        ({"stamps": {}}, "was written while cells were measured"),
    ],
)
def test_a_worker_with_other_code_stops_the_run(cells, tmp_path, monkeypatch, change, said):
    """A cell's code is what the process that measured it found, not what is here."""
    fill(cells[:1], tmp_path / "cells", ONE)
    real, here = Code.of, Cell(measure="analysis.experiment:measure_errors")
    cell = dataclasses.replace(here, measure=f"{__name__}:measure", path=cells[0].path)
    found = []

    def of(closure):
        found.append(real(sources.here().closure({"analysis.experiment:measure_errors"})))
        return found[-1] if len(found) == 1 else dataclasses.replace(found[-1], **change)

    monkeypatch.setattr(Code, "of", of)
    monkeypatch.setattr(Code, "again", lambda self: None)  # a file was written meanwhile: all are read
    monkeypatch.setattr(runner, "_known", {})
    with pytest.raises(WorkersError, match=f"{said}.*cells that are finished are kept"):
        fill([cell], tmp_path / "cells", ONE)
    assert len(list((tmp_path / "cells").iterdir())) == 1


def test_a_file_written_between_start_and_import_is_noticed():
    """The same content is not enough: a file may have been other in between."""
    here = Code.of(sources.here().closure({"analysis.experiment:measure_errors"}))
    name, (written, size) = next(iter(here.stamps.items()))
    touched = dataclasses.replace(here, stamps=here.stamps | {name: (written + 1, size)})
    assert (
        here.differs(touched) == f"{name} was written while cells were measured, and a worker may have either version"
    )
    elsewhere = dataclasses.replace(touched, place="another:machine")
    assert here.differs(elsewhere) is None
    assert here.differs(dataclasses.replace(here)) is None


def test_files_written_before_the_run_are_not_read_again_by_its_workers():
    here = Code.of(sources.here().closure({"analysis.experiment:measure_errors"}))
    settled = dataclasses.replace(here, began=1 + max(written for written, _ in here.stamps.values()))
    assert settled.again() == settled
    assert dataclasses.replace(settled, versions={}).again() == settled  # those of the process that asks
    assert dataclasses.replace(settled, began=settled.began - 1).again() is None
    name, (written, size) = next(iter(here.stamps.items()))
    for other in ({name: (written, size + 1)}, {name: (written - 1, size)}, {"analysis/gone.py": (1, 2)}):
        assert dataclasses.replace(settled, stamps=settled.stamps | other).again() is None
    assert dataclasses.replace(settled, place="another:machine").again() is None


def test_a_cell_without_rows_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ValueError, match="nothing has returned no rows for a"):
        fill([Cell(measure=f"{__name__}:nothing", problem="a")], tmp_path, ONE)


def test_temporary_files_of_runs_that_are_no_more_are_removed(cells, tmp_path):
    store = tmp_path / "cells"
    store.mkdir()
    abandoned = store / f".x.parquet.{results._host()}-{2**22 + 1}.0123abcd.tmp"
    abandoned.write_text("")
    fill(cells, store, ONE)
    assert not abandoned.exists()
    assert os.listdir(store) == [f.name for f in store.iterdir()]
    assert len(list(store.iterdir())) == 3
