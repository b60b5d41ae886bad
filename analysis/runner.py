"""Independent cells measured in parallel, each once, and stored on disk.

A cell's file holds, beside its rows, the cell's key and a record of the code: a digest of the sources that the
measuring process had, and its versions. A file that is damaged, or belongs to another cell, is measured again.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from analysis import provenance, results, sources, users_code
from analysis.experiment import Cell, measure_cell
from analysis.progress import Report, reported
from analysis.workers import Workers, WorkersError

__all__ = ["Workers", "WorkersError", "fill", "run"]
BEGAN = time.time_ns()


def _place() -> str:
    return f"{platform.node()}:{sources.ROOT}"


def _stamps(names: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return time and size of files, of those that are there."""
    stats = {name: (sources.ROOT / name).stat() for name in names if (sources.ROOT / name).is_file()}
    return {name: (stat.st_mtime_ns, stat.st_size) for name, stat in stats.items()}


@dataclass(frozen=True)
class Code:
    """The code of a process: digest of a cell's sources, versions, and path, time and size of the files.

    ``began`` is when the process that first found it began, in nanoseconds.
    """

    digest: str
    versions: dict[str, str]
    place: str
    stamps: dict[str, tuple[int, int]]
    began: int = BEGAN

    @classmethod
    def of(cls, closure: sources.Closure) -> Code:
        """Return the code of a closure, as loaded by this process."""
        names = [file.relative_to(sources.ROOT).as_posix() for file in closure.files]
        return cls(closure.digest, provenance.versions(), _place(), _stamps(names))

    def again(self) -> Code | None:
        """Return this code as another process here has it, or None where it may have read other files.

        Files that were last written before the first process began, and are unchanged, were the same for both.

        Returns
        -------
        Code or None
            With the versions of this process.
        """
        settled = all(written < self.began for written, _ in self.stamps.values())
        if not settled or self.place != _place() or self.stamps != _stamps(self.stamps):
            return None
        return replace(self, versions=provenance.versions())

    def differs(self, other: Code) -> str | None:
        """Return a sentence on the first difference from another process's code, or None."""
        if other.digest != self.digest:
            return "a worker's copy of the sources is not the one here"
        for name, version in self.versions.items():
            if other.versions.get(name) != version:
                return f"a worker has {name} {other.versions.get(name)}, and here it is {version}"
        written = [name for name, stamp in self.stamps.items() if other.stamps.get(name) != stamp]
        if other.place == self.place and written:
            return f"{written[0]} was written while cells were measured, and a worker may have either version"
        return None


@dataclass(frozen=True)
class _Measured:
    """The rows of a cell, and the code of the process that measured them."""

    place: int
    frame: pd.DataFrame
    code: Code
    seconds: float


_known: dict[tuple[str, ...], tuple[set[str], Code]] = {}


def _measure(item: tuple[int, Cell, Code]) -> _Measured:
    """Measure a cell, and record the code that this process imported for it."""
    (place, cell, asked), start = item, time.process_time()
    with users_code.one_line(cell.measure if users_code.MARK in cell.extra_dict else None):
        frame, names = measure_cell(cell), tuple(sorted(cell.names()))
        if not isinstance(frame, pd.DataFrame) or not len(frame):
            raise ValueError(f"the measure of {cell.measure} has returned no rows for {cell.problem}")
    seconds = round(time.process_time() - start, 2)
    loaded = {name for name in sys.modules if name.split(".")[0] in sources.ROOMS}
    # A module stays as it was imported: what the disk holds tells of it only when the import is new.
    if names not in _known or not loaded <= _known[names][0]:
        _known[names] = loaded, asked.again() or Code.of(sources.Sources().closure(names))
    return _Measured(place, frame, _known[names][1], seconds)


def fill(cells: Sequence[Cell], store: Path, workers: Workers, title: str = "cells") -> list[Path]:
    """Measure missing cells in parallel.

    Returns
    -------
    list
        The result file of every cell, in order.

    Raises
    ------
    WorkersError
        If workers are lost or have other code; finished cells stay on disk.
    results.WriteError
        If a cell cannot be written.
    KeyboardInterrupt
        After Ctrl-C; while cells are measured it says how many are finished.
    """
    results.remove_abandoned(store)
    # A store with as many files as there are cells probably has them all.
    whole = len(list(store.glob("*.parquet"))) >= len(cells)
    with workers.importing(sorted({cell.measure.partition(":")[0] for cell in cells if not whole}), len(cells)):
        files = [store / f"{cell.key()}.parquet" for cell in cells]
        once = {file: i for i, file in enumerate(files)}  # experiments may share cells
        missing = [i for file, i in once.items() if not _is_finished(file, cells[i])]
        here = {i: Code.of(cells[i].closure()) for i in missing}
    report = Report(title, [cells[i].label for i in missing], workers.count, len(once) - len(missing))
    try:
        with reported(report):
            for measured in workers.map(_measure, [(i, cells[i], here[i]) for i in missing]):
                i = measured.place
                if said := here[i].differs(measured.code):
                    raise WorkersError(f"{said}; cells that are finished are kept, run again where the code is one")
                about: dict[str, Any] = {"key": cells[i].key(), "code": measured.code.digest, "cell": asdict(cells[i])}
                about["seconds"] = measured.seconds
                _write(measured.frame, files[i], about)
                report.finish(missing.index(i))
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(f"{report.count_line} are finished and kept") from stop
    return files


def _is_finished(file: Path, cell: Cell) -> bool:
    """Return whether a file is a whole result of the cell; warn where a file is there that is not."""
    if not file.exists():
        return False
    try:
        frame, about = results.read_with_provenance(file)
    except results.TableError:
        said = "damaged"
    else:
        if about.get("key") == cell.key() and about.get("code") == cell.closure().digest and len(frame):
            return True
        said = "not this cell's"
    Console(stderr=True).print(f"{file} is {said}: measured again", markup=False, highlight=False, soft_wrap=True)
    return False


def _write(frame: pd.DataFrame, file: Path, about: dict[str, Any]) -> None:
    if file.is_dir():  # not ours, and in the way
        file.rename(file.with_name(f"{file.name}.folder"))
    results.write_table(frame, file, about, csv=False)


def run(cells: Sequence[Cell], store: Path, workers: Workers, title: str = "cells") -> pd.DataFrame:
    """Measure missing cells, and return the rows of all cells in order; raises as ``fill`` does."""
    return pd.concat([results.read_table(file) for file in fill(cells, store, workers, title)], ignore_index=True)
