"""Rerun the theory figures: tables, then figures, each found by its name.

python reproduce.py                        compute the tables, draw the figures, check them, and say what came out
python reproduce.py run NAME ...           the same for some: a figure, or an experiment with all figures of its tables
python reproduce.py compute [NAME ...]     the tables alone (finished cells are kept and found again)
python reproduce.py draw [NAME ...]        the figures alone, from their tables
python reproduce.py check [NAME ...]       is every figure's table there and current? (exit code 1 if not)
python reproduce.py list [NAME ...]        what can be named, and the tables behind it
python reproduce.py audit MODULE:FACTORY   measure your own flow

Made only where named, since they measure this machine: bench, this package beside torchdiffeq and diffrax (extra
"bench"), and gpu_cost, seconds, bytes and round-off of gradients (with --device cuda).
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def _stopped(kind: type[BaseException], error: BaseException, trace: object) -> None:
    """Say in one line that Ctrl-C has been pressed, also while modules are imported."""
    if issubclass(kind, KeyboardInterrupt):
        print("\nstopped; finished cells are kept", file=sys.stderr, flush=True)
        os._exit(130)
    else:
        sys.__excepthook__(kind, error, trace)  # type: ignore[arg-type]


def _hidden(rooms: Sequence[str] = ("analysis", "toy_models", "real_models", "figures")) -> str | None:
    """Return a sentence where a file or folder of the user's hides one of this project's packages, else None."""
    here = Path(__file__).resolve().parent
    for room in rooms:
        spec = importlib.util.find_spec(room)
        places = [*(spec.submodule_search_locations or [spec.origin])] if spec else []
        if places and Path(str(places[0])).resolve() != here / room:
            return (
                f"{places[0]} hides the package {room!r} of guidance-gradients: run the command guidance-gradients, "
                "which looks at its own packages first, or rename it, or call this from another folder"
            )
    return None


if __name__ == "__main__":
    sys.excepthook = _stopped
if _said := _hidden():
    sys.exit(f"error: {_said}")
os.environ["MPLBACKEND"] = "Agg"  # whatever draws in the environment that this is called from

import importlib
import pkgutil
import tempfile
import time
from argparse import Namespace
from functools import partial
from types import ModuleType

from rich.console import Console
from rich.table import Table
from rich.text import Text

import figures
from analysis import figure_files, results, suite
from analysis.audit import measure as audits
from analysis.command_line import DRAWS, MAKES, VERBS, parsers
from analysis.settings import Options, missing_device
from analysis.workers import Workers, WorkersError

AUDIT = ("audit_error", "audit_lookahead")
HELPERS = ("style", "common")  # beside the figures and the experiments
FAILURES = (WorkersError, audits.AuditError, results.TableError, OSError)
console = Console(emoji=False)  # "module:factory:" is no picture of one


def parse(arguments: Sequence[str]) -> Namespace:
    """Parse the command line, which without a verb is ``run``."""
    (whole, verbs), given = parsers(__doc__ or ""), [*arguments]
    if given and given[0] in ("-h", "--help", "--version"):
        whole.parse_args(given)
    verb = given.pop(0) if given and given[0] in VERBS else "run"
    options = verbs[verb].parse_intermixed_args(given)
    options.verb = verb
    if verb == "audit":
        options.names = AUDIT
    elif unknown := sorted({*options.names} - {*names(figures), *places()}):
        known = ", ".join(names(figures))
        verbs[verb].error(f"argument NAME: {', '.join(unknown)} unknown (verbs come first); the figures are {known}")
    elif verb in MAKES and (audited := {*options.names} & {*AUDIT}):
        verbs[verb].error(f"argument NAME: {', '.join(sorted(audited))} is made by python reproduce.py audit")
    if verb in MAKES and options.scheduler and (options.backend != "dask" or options.jobs):
        verbs[verb].error(
            "argument --scheduler: needs --backend dask, and takes no --jobs: its workers are the cluster's"
        )
    return options


def names(package: ModuleType) -> list[str]:
    """Return the names of a package's figures or experiments."""
    every = (module.name for module in pkgutil.iter_modules(package.__path__))
    return [name for name in every if name not in HELPERS and not name.startswith("_")]


def places() -> dict[str, str]:
    """Return the module of every experiment by the name of its table."""
    import real_models.experiments
    import toy_models.experiments

    packages = toy_models.experiments, real_models.experiments
    return {name: f"{package.__name__}.{name}" for package in packages for name in names(package)}


def experiments() -> dict[str, ModuleType]:
    """Return every experiment by the name of its table."""
    return {name: importlib.import_module(place) for name, place in places().items()}


def selected(options: Namespace) -> dict[str, ModuleType]:
    """Return the figures to work on: those named, those of experiments named, or all that need not be named."""
    every = names(figures)
    wanted = [name for name in options.names if name in every]
    others = {*options.names} - {*wanted}
    if others or not options.names:
        wanted += [name for name in every if name not in wanted]
    modules = {name: importlib.import_module(f"figures.{name}") for name in wanted}
    if (options.names and not others) or (options.verb == "list" and not options.names):
        return modules
    known = experiments()
    makers = {name: suite.makers(figure.TABLES, known) for name, figure in modules.items()}
    if others:
        return {n: figure for n, figure in modules.items() if n in options.names or others & {*makers[n]}}
    on_request = {name for name, module in known.items() if getattr(module, "ON_REQUEST", False)}
    return {n: figure for n, figure in modules.items() if makers[n] and not on_request & {*makers[n]}}


def compute(options: Namespace) -> None:
    """Compute the tables of the selected figures."""
    known = experiments()
    needed = {name for figure in selected(options).values() for name in suite.makers(figure.TABLES, known)}
    chosen = {name: module for name, module in known.items() if name in needed}
    suite.make(
        chosen, Options(options.quick, options.seed, options.dtype, options.device), options.out, workers(options)
    )


def audit(options: Namespace) -> None:
    """Audit a user's flow, and say what came out."""
    asked = ("factory", "error", "times", "samples", "quick", "seed", "device")
    wanted = audits.AuditOptions(**{name: getattr(options, name) for name in asked})
    lines = audits.run(wanted, options.out, workers(options))
    console.print(*lines, sep="\n", markup=False, highlight=False, soft_wrap=True)


def workers(options: Namespace) -> Workers:
    """Return where cells run."""
    return Workers(options.jobs or -1, options.backend, options.scheduler)


def draw(options: Namespace) -> None:
    """Draw the selected figures from their tables, and say where they are and what they show."""
    wanted = [*selected(options)]
    answers = dict(Workers(min(options.jobs or -1, len(wanted))).map(partial(draw_one, options.out), wanted))
    table = Table(title=Text(f"Figures, captions and tables are in {options.out}/"), title_justify="left")
    table.add_column("figure")
    table.add_column("what it shows")
    for name in wanted:
        table.add_row(Text(name), Text(answers[name]))
    console.print(table)


def draw_one(out: Path, name: str) -> tuple[str, str]:
    """Draw one figure; return its name and its answer, since workers finish in any order."""
    return name, figure_files.write(out, f"figures.{name}")


def check(options: Namespace) -> int:
    """Say what is missing or out of date among the selected figures' tables; return the exit code."""
    tables = sorted({table for figure in selected(options).values() for table in figure.TABLES})
    problems = [problem for name in tables if (problem := suite.out_of_date(name, options.out))]
    for problem in problems:
        console.print(Text(problem, style="red"))
    if not problems:
        console.print("Every table is there and current.")
    return 1 if problems else 0


def possible(options: Namespace) -> None:
    """Exit with a clear message unless files can be written and torch has the device; nothing is left behind."""
    place = next(p for p in (options.out, *options.out.absolute().parents) if p.exists())
    try:
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        sys.exit(f"error: argument --out: cannot write to {options.out} ({error.strerror})")
    if options.verb in MAKES and (said := missing_device(options.device)):
        sys.exit(f"error: argument --device: {said}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    for stream in (sys.stdout, sys.stderr):  # a path's letters need not be in the terminal's alphabet
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")
    options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        return command(options)
    except KeyboardInterrupt:
        print("\nstopped; finished cells are kept", file=sys.stderr)
        return 130
    except FAILURES as error:
        print(f"error: {error.strerror if isinstance(error, results.WriteError) else error}", file=sys.stderr)
        return 1


def command(options: Namespace) -> int:
    """Do what the verb says; return the exit code."""
    start = time.perf_counter()
    if options.verb == "list":
        for name, figure in selected(options).items():
            console.print(Text(f"{name}: {figure.QUESTION} [tables: {', '.join(figure.TABLES)}]"))
        return 0
    if options.verb == "check":
        return check(options)
    possible(options)
    if options.verb in MAKES:
        (audit if options.verb == "audit" else compute)(options)
    if options.verb in DRAWS:
        draw(options)
    suite.write_manifest(options.out, time.perf_counter() - start)
    return check(options) if options.verb == "run" else 0


if __name__ == "__main__":
    sys.exit(main())
