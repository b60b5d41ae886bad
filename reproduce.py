"""Rerun the theory figures: tables, then figures, each found by its name.

python reproduce.py              run, draw, check, and say what came out
python reproduce.py run          compute the tables (finished cells are kept and found again)
python reproduce.py draw         draw the figures from the tables, computing nothing
python reproduce.py check        is every figure's table there and current? (exit code 1 if not)
python reproduce.py list         name the tables and figures
python reproduce.py bench        time this package beside torchdiffeq and diffrax (needs the extra "bench")
python reproduce.py gpu --device cuda   measure seconds, bytes and round-off of gradients on a device
python reproduce.py bounds       judge the error bounds on more than 100,000 cases each
python reproduce.py audit MODULE:FACTORY   measure your own flow
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import pkgutil
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

import figures
from analysis import results
from analysis.audit import report as audit_report
from analysis.provenance import code_hash, provenance

VERBS = ("all", "run", "draw", "check", "list", "bench", "gpu", "bounds", "audit")
NOT_FIGURES = ("style",)
NOT_EXPERIMENTS = ("common",)
console = Console(emoji=False)  # "module:factory:" is no picture of one


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", nargs="?", default="all", choices=VERBS)
    parser.add_argument("--quick", action="store_true", help="fewer problems, states and steps: under a minute")
    parser.add_argument("--out", type=Path, default=Path("results"), help="output folder (default: results)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these figures")
    parser.add_argument("--jobs", type=int, default=-1, help="worker processes (default: one per core)")
    parser.add_argument("--backend", default="loky", choices=("loky", "dask"), help="where the cells run")
    parser.add_argument("--scheduler", help="address of a Dask scheduler (with --backend dask)")
    parser.add_argument("--device", default="cpu", help="torch device of the estimators (default: cpu)")
    parser.add_argument("--dtype", default="float64", choices=("float32", "float64"), help="of the estimators")
    parser.add_argument("--seed", type=int, default=0)
    audit_report.add_arguments(parser)
    found = parser.parse_intermixed_args(arguments)
    if (found.factory is not None) != (found.verb == "audit"):
        parser.error("argument factory: package.module:factory goes with the verb audit, which needs it")
    if unknown := set(found.only or ()) - set(names(figures, NOT_FIGURES)):
        known = ", ".join(names(figures, NOT_FIGURES))
        parser.error(f"argument --only: {', '.join(sorted(unknown))} unknown; the figures are {known}")
    if found.only and found.verb in ("all", "run"):
        for name, figure in selected(found).items():
            if verb := getattr(figure, "VERB", None):
                parser.error(f"argument --only: {name} is made by python reproduce.py {verb}")
    if found.verb == "bounds":
        found.verb, found.only = "all", ["bound_tightness"]
    if found.scheduler and found.backend != "dask":
        parser.error("argument --scheduler: needs --backend dask")
    return found


def names(package: ModuleType, leave_out: Sequence[str]) -> list[str]:
    """Return the names of a package's modules."""
    return [m.name for m in pkgutil.iter_modules(package.__path__) if m.name not in leave_out]


def selected(options: argparse.Namespace) -> dict[str, ModuleType]:
    """Return the figure modules to work on, by name; one with a verb of its own only where it is asked for."""
    wanted = options.only or names(figures, NOT_FIGURES)
    found = {name: importlib.import_module(f"figures.{name}") for name in wanted}
    everything = options.only or options.verb == "list"
    return {n: f for n, f in found.items() if everything or getattr(f, "VERB", options.verb) == options.verb}


def experiments(options: argparse.Namespace) -> dict[str, ModuleType]:
    """Return the experiments that the selected figures need, by table name."""
    import real_models.experiments
    import toy_models.experiments

    needed = {table for figure in selected(options).values() for table in figure.TABLES}
    packages = toy_models.experiments, real_models.experiments
    known = {n: package.__name__ for package in packages for n in names(package, NOT_EXPERIMENTS)}
    return {n: importlib.import_module(f"{package}.{n}") for n, package in known.items() if n in needed}


def record(options: argparse.Namespace) -> dict[str, Any]:
    """Return the provenance of tables made with these options."""
    spec = {key: getattr(options, key) for key in ("quick", "dtype")}
    return provenance(options.device, options.seed) | {"options": spec}


def run(options: argparse.Namespace) -> None:
    """Compute the tables of the selected figures."""
    from analysis.experiment import split_timings
    from analysis.runner import Workers, fill
    from analysis.settings import Options

    spec = Options(options.quick, options.seed, options.dtype, options.device)
    found = experiments(options)
    cells = {name: experiment.cells(spec) for name, experiment in found.items()}
    # One pool for all of them, since many experiments have few cells.
    pooled = [(name, cell) for name, some in cells.items() for cell in some]
    workers = Workers(options.jobs, options.backend, options.scheduler)
    files = fill([cell for _, cell in pooled], options.out / "cells", workers)
    for name, experiment in found.items():
        tables = [results.read_table(file) for (owner, _), file in zip(pooled, files, strict=True) if owner == name]
        frame = pd.concat(tables, ignore_index=True)
        parts = dict(split_timings(frame))
        derived = experiment.derive(parts[""]) if hasattr(experiment, "derive") else {}
        for suffix, part in (parts | {f"_{key}": value for key, value in derived.items()}).items():
            results.write_table(part, options.out / "tables" / f"{name}{suffix}.parquet", record(options))
        if hasattr(experiment, "write"):
            experiment.write(derived, options.out)


def bench(options: argparse.Namespace) -> None:
    """Compute the bench's table, and turn to its figure alone."""
    from analysis.settings import Options
    from toy_models.bench import measure

    options.only = ["bench"]
    try:
        peers = {"peers": measure.require()}
    except ImportError as error:
        sys.exit(f"error: {error}")
    frame = measure.run(Options(options.quick, options.seed, options.dtype, options.device), options.out / "cells")
    results.write_table(frame, options.out / "tables" / "bench.parquet", record(options) | peers)


def gpu(options: argparse.Namespace) -> None:
    """Compute the table of costs on a device, and turn to its figure alone."""
    from analysis.settings import Options
    from real_models.experiments import gpu_cost

    options.only = ["gpu_cost"]
    frame = gpu_cost.run(Options(options.quick, options.seed, options.dtype, options.device), options.out / "cells")
    results.write_table(frame, options.out / "tables" / "gpu_cost.parquet", record(options))


def audit(options: argparse.Namespace) -> None:
    """Audit a user's flow, say what came out, and turn to its figures alone."""
    from analysis.audit import measure

    options.only = ["audit_error", "audit_lookahead"]
    try:
        lines = measure.run(options, record(options))
    except measure.AuditError as error:
        sys.exit(f"error: {error}")
    console.print(*lines, sep="\n", markup=False, highlight=False, soft_wrap=True)


def tables_of(figure: ModuleType, out: Path) -> dict[str, Any]:
    """Read a figure's tables."""
    return {name: results.read_table(out / "tables" / f"{name}.parquet") for name in figure.TABLES}


def save(figure: Figure, caption: str, base: Path) -> None:
    """Write a figure as PDF and PNG, without dates so that bytes repeat, and its caption as text."""
    for kind, metadata in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
        results.write_whole(base.with_suffix(f".{kind}"), partial(figure.savefig, format=kind, metadata=metadata))
    results.write_whole(base.with_suffix(".txt"), lambda file: file.write(f"{caption}\n".encode()))


def draw(options: argparse.Namespace) -> dict[str, str]:
    """Draw the selected figures from their tables; return what each of them says."""
    wanted = list(selected(options))
    with joblib.parallel_config("loky", n_jobs=min(options.jobs, len(wanted))):
        return dict(
            zip(wanted, joblib.Parallel()(joblib.delayed(draw_one)(n, options.out) for n in wanted), strict=True)
        )


def draw_one(name: str, out: Path) -> str:
    """Draw one figure, and return what it says."""
    figure = importlib.import_module(f"figures.{name}")
    tables = tables_of(figure, out)
    answer, drawn = figure.answer(tables), figure.draw(tables)
    save(drawn, f"{figure.QUESTION} {answer}", out / "figures" / name)
    plt.close(drawn)
    return answer


def check(options: argparse.Namespace) -> list[str]:
    """Return what is missing or out of date among the selected figures' tables."""
    problems = []
    for name in sorted({table for figure in selected(options).values() for table in figure.TABLES}):
        path = options.out / "tables" / f"{name}.parquet"
        if not path.exists():
            problems.append(f"{name}: the table is not there")
        elif (made := results.read_provenance(path).get("code")) != code_hash():
            problems.append(f"{name}: the table was made by other code ({made}, now {code_hash()})")
    return problems


def manifest(options: argparse.Namespace, seconds: float) -> None:
    """Write what was made: provenance, wall time and the hash of every file."""
    rooms = ("tables/*", "figures/*", "claims.json")
    kept = sorted(p for room in rooms for p in options.out.glob(room) if p.is_file())
    hashes = {str(p.relative_to(options.out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in kept}
    results.write_json(options.out / "manifest.json", record(options) | {"seconds": round(seconds, 1), "files": hashes})


def report(options: argparse.Namespace, answers: dict[str, str]) -> None:
    """Say where the results are and what they show."""
    table = Table(title=f"Figures, captions and tables are in {options.out}/", title_justify="left")
    table.add_column("figure")
    table.add_column("what it shows")
    for name, text in answers.items():
        table.add_row(name, text)
    console.print(table)


def writable(folder: Path) -> None:
    """Exit with a clear message unless files can be written into ``folder``."""
    try:
        probe = folder / ".writable"
        results.write_whole(probe, lambda file: file.write(b""))
        probe.unlink()
    except OSError as error:
        sys.exit(f"error: argument --out: cannot write to {folder} ({error.strerror})")


def available(device: str) -> None:
    """Exit with a clear message unless torch has the device."""
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        sys.exit(f"error: argument --device: {device} is not available ({str(error).splitlines()[0]})")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    start = time.perf_counter()
    if options.verb == "list":
        for name, figure in selected(options).items():
            console.print(f"{name}: {figure.QUESTION} [tables: {', '.join(figure.TABLES)}]", markup=False)
        return 0
    if options.verb != "check":
        writable(options.out)
    if options.verb in ("all", "run", "bench", "gpu", "audit"):
        available(options.device)
        {"bench": bench, "gpu": gpu, "audit": audit}.get(options.verb, run)(options)
    answers = draw(options) if options.verb in ("all", "draw", "bench", "gpu", "audit") else {}
    problems = check(options) if options.verb in ("all", "check") else []
    if options.verb != "check":
        manifest(options, time.perf_counter() - start)
    if answers:
        report(options, answers)
    for problem in problems:
        console.print(problem, style="red")
    if options.verb in ("all", "check") and not problems:
        console.print("Every table is there and current.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
