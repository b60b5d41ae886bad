"""The tables of a suite of experiments: made from their cells, checked against the sources, listed with their files.

An experiment is a module with ``cells(options) -> list[Cell]``. It may define ``derive(table) -> {suffix: table}``,
``write(derived, out)``, which writes further files, and

- ``SUITE``, the one of ``SUITES`` that it belongs to; without, it is made only where it is named;
- ``SERIAL = True`` where seconds are what it measures: its cells run one after the other, in this process, and its
  table keeps the column;
- ``PACKAGES``, names of further packages whose versions belong to its tables.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from analysis import checks, results, sources, users_code
from analysis.experiment import Cell, split_timings
from analysis.provenance import PACKAGES, provenance, versions
from analysis.runner import fill
from analysis.settings import Options, resolve
from analysis.workers import Workers, WorkersError

SUITES = {
    "theory": "the paper's theory figures, bounds and claims, on analytic flows",
    "guidance": "guided samplers against exact posteriors",
    "images": "the learned flow of images",
    "molecules": "the learned flow of molecules",
}
STEPS = ("cells", "derive", "write")  # the functions of an experiment that its tables depend on
FOLDERS = ("tables/*", "figures/*", "claims.json")


def suite_of(makers: Iterable[ModuleType]) -> str:
    """Return the last suite that the experiments of a figure belong to; "" where one has none, or there are none."""
    suites = {getattr(module, "SUITE", "") for module in makers}
    return "" if "" in suites else max(suites, key=list(SUITES).index, default="")


def make(experiments: Mapping[str, ModuleType], options: Options, out: Path, workers: Workers) -> dict[str, float]:
    """Compute the tables of experiments, by name, and write them below ``out``.

    Returns
    -------
    dict
        The seconds of one core that each experiment's cells took, those of finished cells included; a cell that
        experiments share counts for the first of them.

    Raises
    ------
    WorkersError
        Where a package is missing, or workers are lost.
    users_code.PluginError
        Where a user's experiment fails.
    results.WriteError
        Where a file cannot be written.
    """
    try:
        cells = {name: _cells(experiment, options) for name, experiment in experiments.items()}
    except ImportError as error:
        raise WorkersError(str(error)) from error
    serial = [name for name, experiment in experiments.items() if getattr(experiment, "SERIAL", False)]
    # One pool for all of the others, since many experiments have few cells.
    pooled = [(name, cell) for name, some in cells.items() if name not in serial for cell in some]
    results.remove_abandoned(out / "tables")
    files: dict[str, list[Path]] = {name: [] for name in experiments}
    for (name, _), file in zip(pooled, fill([cell for _, cell in pooled], out / "cells", workers), strict=True):
        files[name].append(file)
    for name in serial:
        files[name] = fill(cells[name], out / "cells", Workers(jobs=1), name)
    seconds, counted = dict[str, float](), set[Path]()
    for name, experiment in experiments.items():
        read = [results.read_with_provenance(file) for file in files[name]]
        new = [about for file, (_, about) in zip(files[name], read, strict=True) if file not in counted]
        counted.update(files[name])
        frame = pd.concat([rows for rows, _ in read], ignore_index=True)
        seconds[name] = sum(about.get("seconds", 0.0) for about in new)
        about = record(options, _names(experiment, cells[name]), getattr(experiment, "PACKAGES", ()))
        counts = [(told["key"], len(rows)) for rows, told in read]  # by which ``restore`` finds them again
        _write(name, experiment, frame, out, about, counts)
    return seconds


def makers(tables: Iterable[str], known: Mapping[str, ModuleType]) -> dict[str, ModuleType]:
    """Return those of the ``known`` experiments that make ``tables``: NAME makes the tables NAME and NAME_suffix."""
    owners = ([name for name in known if table == name or table.startswith(f"{name}_")] for table in tables)
    return {name: known[name] for some in owners if some for name in [max(some, key=len)]}


def _cells(experiment: ModuleType, options: Options) -> list[Cell]:
    """Return the cells, marked by the source of an experiment that is none of this project's: an edit is noticed."""
    if not (file := users_code.file_of(experiment)):
        return experiment.cells(options)
    with users_code.one_line(file):
        cells = experiment.cells(options)
        if not isinstance(cells, list) or not cells or not all(isinstance(cell, Cell) for cell in cells):
            raise TypeError(f"cells(options) must return a list of at least one Cell, got {checks.kind(cells)}")
        for cell in cells:
            resolve(cell.measure)
    if not experiment.__file__:
        return cells
    digest = hashlib.sha256(Path(experiment.__file__).read_bytes()).hexdigest()[:16]
    return [replace(cell, extra=(*cell.extra, (users_code.MARK, digest))) for cell in cells]


def _names(experiment: ModuleType, cells: Iterable[Cell]) -> set[str]:
    """Return the names from which the sources of an experiment's tables are collected."""
    steps = {f"{experiment.__name__}:{step}" for step in STEPS if hasattr(experiment, step)}
    return steps.union(*(cell.names() for cell in cells))


def restore(
    name: str, experiment: ModuleType, options: Options, tables: Path, store: Path, seconds: float = 0.0
) -> int:
    """Write the cells whose rows a table NAME has into ``store``, so that a run computes the others alone.

    A table that was shipped without its cells can be continued so: with further estimators, budgets or batches. Each
    cell is given its share, by rows, of the ``seconds`` that all took.

    Returns
    -------
    int
        The number of today's cells that are restored: those that the same code and versions made.
    """
    file = tables / f"{name}.parquet"
    frame, about = results.read_with_provenance(file)
    start, parts = 0, dict[str, pd.DataFrame]()
    for key, count in about.get("cells", ()):
        parts[key], start = frame.iloc[start : start + count], start + count
    cells = {cell.key(): cell for cell in experiment.cells(options)}
    for key in parts.keys() & cells.keys():
        told = {"key": key, "code": cells[key].closure().digest, "cell": asdict(cells[key])}
        told["seconds"] = seconds * len(parts[key]) / len(frame)
        rows = parts[key].dropna(axis=1, how="all").reset_index(drop=True)
        results.write_table(rows, store / f"{key}.parquet", told, csv=False)
    return len(parts.keys() & cells.keys())


def _write(
    name: str,
    experiment: ModuleType,
    frame: pd.DataFrame,
    out: Path,
    about: dict[str, Any],
    counts: list[tuple[str, int]],
) -> None:
    parts = {"": frame} if getattr(experiment, "SERIAL", False) else dict(split_timings(frame))
    with users_code.one_line(users_code.file_of(experiment)):
        derived = experiment.derive(parts[""]) if hasattr(experiment, "derive") else {}
        for suffix, part in (parts | {f"_{key}": value for key, value in derived.items()}).items():
            told = about | ({} if suffix else {"cells": counts})
            results.write_table(part, out / "tables" / f"{name}{suffix}.parquet", told)
        if hasattr(experiment, "write"):
            experiment.write(derived, out)


def record(options: Options, names: Iterable[str], packages: Iterable[str] = ()) -> dict[str, Any]:
    """Return the provenance of a table: the sources are collected from ``names``, and ``packages`` may be missing."""
    known = sorted(name for name in set(names) if " " not in name)
    there = [name for name in packages if importlib.util.find_spec(name)]
    about = {"options": {"quick": options.quick, "dtype": options.dtype}, "sources": known}
    about |= {"code": sources.here().closure(known).digest, "versions": versions((*PACKAGES, *there))}
    return provenance(options.device, options.seed) | about


def out_of_date(name: str, out: Path, asked: Mapping[str, Any]) -> str | None:
    """Compare a table on disk with the one that today's sources and options would make.

    Parameters
    ----------
    name, out : the table, and the folder of the run
    asked : what its provenance must say: some of quick, dtype, seed, and device ("cpu" or "gpu")

    Returns
    -------
    str or None
        The difference, or None where there is none.
    """
    path = out / "tables" / f"{name}.parquet"
    try:
        made = results.read_provenance(path)
    except FileNotFoundError:
        return f"{name}: the table is not there"
    except results.TableError as error:
        return f"{name}: {str(error).removeprefix(f'{path}: ')}"
    told = made | made.get("options", {})
    told |= {"device": kind_of(str(told.get("device")))} if "device" in asked else {}
    other = [f"{key} {told.get(key)}, not {value}" for key, value in asked.items() if told.get(key) != value]
    if other:
        return f"{name}: the table was made with {', '.join(other)}"
    now = sources.here().closure(made.get("sources", ())).digest
    return (
        None if made.get("code") == now else f"{name}: the table was made by other code ({made.get('code')}, now {now})"
    )


def kind_of(device: str) -> str:
    """Return "cpu" or "gpu" for a torch device ("cuda:0") or its name in a table's provenance ("cpu x86_64")."""
    return "cpu" if device.startswith("cpu") else "gpu"


def core_seconds(out: Path) -> dict[str, float]:
    """Return the seconds of one core by experiment, as the manifest in ``out`` has them; empty without a whole one."""
    try:
        return dict(results.read_json(out / "manifest.json")["core_seconds"])
    except (FileNotFoundError, results.TableError, KeyError, TypeError):
        return {}  # it is written anew by every command


def write_manifest(out: Path, seconds: float, cores: Mapping[str, float]) -> None:
    """Write what is in ``out``: the hash of every file, and each table's own provenance.

    Parameters
    ----------
    out : the folder of the run
    seconds : those of the last command
    cores : seconds of one core by experiment; those of earlier commands are kept
    """
    hashes, tables = {}, {}
    for path in sorted(path for folder in FOLDERS for path in out.glob(folder)):
        try:
            if path.is_file() and not path.name.startswith("."):
                hashes[path.relative_to(out).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
                if path.suffix == ".parquet":
                    tables[path.stem] = results.read_provenance(path)
        except (FileNotFoundError, results.TableError):
            continue  # another run has just written it
    known = core_seconds(out) | {name: round(value, 1) for name, value in cores.items()}
    about = {"files": hashes, "tables": tables, "seconds": round(seconds, 1), "core_seconds": known}
    results.write_json(out / "manifest.json", about)
