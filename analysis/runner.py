"""Independent cells measured in parallel, each once, and kept on disk."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import joblib
import pandas as pd
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from analysis import checks, results
from analysis.experiment import Cell, measure_cell

BACKENDS = ("loky", "dask")


@dataclass(frozen=True)
class Workers:
    """How cells are spread: processes here (loky), or a Dask cluster whose scheduler has this address."""

    jobs: int = -1
    backend: str = "loky"
    scheduler: str | None = None

    def __post_init__(self) -> None:
        checks.known("backend", self.backend, BACKENDS)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Make this the backend of joblib inside the block."""
        with contextlib.ExitStack() as stack:
            if self.backend == "dask":
                try:
                    from distributed import Client
                except ImportError as error:
                    raise ImportError('backend "dask" needs: pip install -e ".[cluster]"') from error
                stack.enter_context(Client(self.scheduler, set_as_default=True))
            stack.enter_context(joblib.parallel_config(self.backend, n_jobs=self.jobs))
            yield


def _labelled(i: int, cell: Cell) -> tuple[int, pd.DataFrame]:
    return i, measure_cell(cell)


def fill(cells: Sequence[Cell], store: Path, workers: Workers, title: str = "cells") -> list[Path]:
    """Measure the cells that ``store`` does not hold yet, in parallel, and return the files of all of them."""
    files = [store / f"{cell.key()}.parquet" for cell in cells]
    missing = [i for i, file in enumerate(files) if not file.exists()]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress, workers.active(), warnings.catch_warnings():
        # loky replaces a worker whose memory has grown, between cells; one that crashes is an exception and not this.
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs")
        task = progress.add_task(title, total=len(cells), completed=len(cells) - len(missing))
        parallel = joblib.Parallel(return_as="generator_unordered", batch_size=1)
        for i, frame in parallel(joblib.delayed(_labelled)(i, cells[i]) for i in missing):
            results.write_table(frame, files[i], asdict(cells[i]), csv=False)
            progress.advance(task)
    return files


def run(cells: Sequence[Cell], store: Path, workers: Workers, title: str = "cells") -> pd.DataFrame:
    """Measure the cells that ``store`` does not hold yet, and return all rows in the order of cells."""
    return pd.concat([results.read_table(file) for file in fill(cells, store, workers, title)], ignore_index=True)
