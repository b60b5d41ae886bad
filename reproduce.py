"""Rerun the theory figures: tables, then figures, each found by its name.

python reproduce.py              run, draw, check, and say what came out
python reproduce.py run          compute the tables (finished cells are kept and found again)
python reproduce.py draw         draw the figures from the tables, computing nothing
python reproduce.py check        is every figure's table there and current? (exit code 1 if not)
python reproduce.py list         name the tables and figures
python reproduce.py audit MODULE:FACTORY   measure your own flow

Some figures are made only when they are asked for:
python reproduce.py bench        = --only bench: time this package beside torchdiffeq and diffrax (extra "bench")
python reproduce.py gpu          = --only gpu_cost: seconds, bytes and round-off of gradients (with --device cuda)
python reproduce.py bounds       = --only bound_tightness: judge the error bounds on more than 100,000 cases each
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

import argparse
import importlib
import pkgutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

import analysis
import figures
from analysis import figure_files, results, suite
from analysis.audit import measure as audits
from analysis.settings import Options
from analysis.workers import Workers, WorkersError

ALIASES = {"bench": "bench", "gpu": "gpu_cost", "bounds": "bound_tightness"}  # verb: the figure that it makes
AUDIT = ("audit_error", "audit_lookahead")
NOT_FIGURES, NOT_EXPERIMENTS = ("style",), ("common",)
DEFAULTS: dict[str, Any] = {"quick": False, "out": Path("results"), "only": None, "jobs": -1, "backend": "loky"}
DEFAULTS |= {"scheduler": None, "device": "cpu", "dtype": "float64", "seed": 0}
DEFAULTS |= {"factory": None, "error": 0.05, "times": None, "samples": None}
MAKES = {"quick", "out", "jobs", "backend", "scheduler", "device", "seed"}
TAKES = {"all": MAKES | {"only", "dtype"}, "run": MAKES | {"only", "dtype"}, "draw": {"out", "only", "jobs"}}
TAKES |= {"check": {"out", "only"}, "list": {"only"}, "audit": MAKES | {"factory", "error", "times", "samples"}}
TAKES |= dict.fromkeys(ALIASES, MAKES | {"dtype"})
FAILURES = (WorkersError, audits.AuditError, results.TableError, OSError)
console = Console(emoji=False)  # "module:factory:" is no picture of one


def jobs(text: str) -> int:
    """Read --jobs."""
    if (count := int(text)) == 0:
        raise argparse.ArgumentTypeError("must not be 0; -1 is one worker per core")
    return count


def seed(text: str) -> int:
    """Read --seed."""
    if not 0 <= (value := int(text)) < 2**63:
        raise argparse.ArgumentTypeError("must be at least 0 and below 2^63")
    return value


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; options that the verb does not read are refused."""
    about = {"description": __doc__, "formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser(**about, argument_default=argparse.SUPPRESS)  # type: ignore[arg-type]
    parser.add_argument("--version", action="version", version=f"%(prog)s {analysis.__version__}")
    parser.add_argument("verb", nargs="?", default="all", choices=tuple(TAKES))
    parser.add_argument("factory", nargs="?", help="with audit: package.module:factory, which returns your flow")
    parser.add_argument("--quick", action="store_true", help="fewer problems, states and steps: under a minute")
    parser.add_argument("--out", type=Path, help="output folder (default: results)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these figures")
    parser.add_argument("--jobs", type=jobs, help="worker processes (default: one per core)")
    parser.add_argument("--backend", choices=("loky", "dask"), help="where the cells run (default: loky, here)")
    parser.add_argument("--scheduler", help="address of a Dask scheduler (with --backend dask)")
    parser.add_argument("--device", help="torch device of the estimators (default: cpu)")
    parser.add_argument("--dtype", choices=("float32", "float64"), help="of analytic flows' estimators")
    parser.add_argument("--seed", type=seed, help="of states, losses and noise (default: 0)")
    group = parser.add_argument_group("audit")
    group.add_argument("--error", type=float, help="the relative error wanted of a lookahead (default: 0.05)")
    group.add_argument("--times", type=float, nargs="+", help="times in (0, 1) (default: 0.1 0.2 ... 0.9)")
    group.add_argument("--samples", type=int, help="states per time (default: 32)")
    given = vars(parser.parse_intermixed_args(arguments))
    verb = given.pop("verb")
    for name in sorted(set(given) - TAKES[verb]):
        known = ", ".join(sorted(v for v, takes in TAKES.items() if name in takes))
        parser.error(f"argument {'' if name == 'factory' else '--'}{name}: goes with {known}, and not with {verb}")
    options = argparse.Namespace(**DEFAULTS | given, verb=verb)
    if verb == "audit" and not options.factory:
        parser.error("argument factory: audit needs package.module:factory")
    if unknown := set(options.only or ()) - set(names(figures, NOT_FIGURES)):
        known = ", ".join(names(figures, NOT_FIGURES))
        parser.error(f"argument --only: {', '.join(sorted(unknown))} unknown; the figures are {known}")
    if options.verb in ("all", "run") and (audited := set(options.only or ()) & set(AUDIT)):
        parser.error(f"argument --only: {', '.join(sorted(audited))} is made by python reproduce.py audit")
    if options.scheduler and (options.backend != "dask" or "jobs" in given):
        parser.error("argument --scheduler: needs --backend dask, and takes no --jobs: its workers are the cluster's")
    if verb in ALIASES:
        options.verb, options.only = "all", [ALIASES[verb]]
    return options


def names(package: ModuleType, leave_out: Sequence[str]) -> list[str]:
    """Return the names of a package's public modules."""
    found = [m.name for m in pkgutil.iter_modules(package.__path__)]
    return [name for name in found if name not in leave_out and not name.startswith("_")]


def experiments() -> dict[str, ModuleType]:
    """Return every experiment by the name of its table."""
    import real_models.experiments
    import toy_models.experiments

    packages = toy_models.experiments, real_models.experiments
    places = {n: f"{package.__name__}.{n}" for package in packages for n in names(package, NOT_EXPERIMENTS)}
    return {name: importlib.import_module(place) for name, place in places.items()}


def selected(options: argparse.Namespace) -> dict[str, ModuleType]:
    """Return the figures to work on by name: those named, or all that are not made on request alone."""
    wanted = AUDIT if options.verb == "audit" else options.only or names(figures, NOT_FIGURES)
    found = {name: importlib.import_module(f"figures.{name}") for name in wanted}
    if options.only or options.verb in ("audit", "list"):
        return found
    known = experiments()
    needed = {name: suite.makers(figure.TABLES, known).values() for name, figure in found.items()}
    made = {n for n, some in needed.items() if some and not any(getattr(e, "ON_REQUEST", False) for e in some)}
    return {name: figure for name, figure in found.items() if name in made}


def run(options: argparse.Namespace) -> None:
    """Compute the tables of the selected figures."""
    known = experiments()
    needed = {name for figure in selected(options).values() for name in suite.makers(figure.TABLES, known)}
    chosen = {name: module for name, module in known.items() if name in needed}
    spec = Options(options.quick, options.seed, options.dtype, options.device)
    suite.make(chosen, spec, options.out, workers(options))


def audit(options: argparse.Namespace) -> None:
    """Audit a user's flow, and say what came out."""
    asked = {
        name: getattr(options, name) for name in ("factory", "error", "times", "samples", "quick", "seed", "device")
    }
    lines = audits.run(audits.AuditOptions(**asked), options.out, workers(options))
    console.print(*lines, sep="\n", markup=False, highlight=False, soft_wrap=True)


def workers(options: argparse.Namespace) -> Workers:
    """Return where cells run."""
    return Workers(options.jobs, options.backend, options.scheduler)


def draw(options: argparse.Namespace) -> dict[str, str]:
    """Draw the selected figures from their tables; return what each of them says."""
    wanted = list(selected(options))
    said = dict(Workers(min(options.jobs, len(wanted))).map(partial(draw_one, options.out), wanted))
    return {name: said[name] for name in wanted}


def draw_one(out: Path, name: str) -> tuple[str, str]:
    """Draw one figure; return its name and what it says."""
    return name, figure_files.write(out, f"figures.{name}")


def check(options: argparse.Namespace) -> list[str]:
    """Return what is missing or out of date among the selected figures' tables."""
    tables = sorted({table for figure in selected(options).values() for table in figure.TABLES})
    return [problem for name in tables if (problem := suite.out_of_date(name, options.out))]


def report(options: argparse.Namespace, answers: dict[str, str]) -> None:
    """Say where the results are and what they show."""
    table = Table(title=Text(f"Figures, captions and tables are in {options.out}/"), title_justify="left")
    table.add_column("figure")
    table.add_column("what it shows")
    for name, text in answers.items():
        table.add_row(Text(name), Text(text))
    console.print(table)


def possible(options: argparse.Namespace) -> None:
    """Exit with a clear message unless files can be written and torch has the device; nothing is left behind."""
    place = next(p for p in (options.out, *options.out.absolute().parents) if p.exists())
    try:
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        sys.exit(f"error: argument --out: cannot write to {options.out} ({error.strerror})")
    if options.verb == "draw":
        return
    import torch

    try:
        torch.empty(1, device=options.device)
    except (RuntimeError, AssertionError) as error:
        sys.exit(f"error: argument --device: {options.device} is not available ({str(error).splitlines()[0]})")


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


def command(options: argparse.Namespace) -> int:
    """Do what the verb says; return the exit code."""
    start = time.perf_counter()
    if options.verb == "list":
        for name, figure in selected(options).items():
            console.print(Text(f"{name}: {figure.QUESTION} [tables: {', '.join(figure.TABLES)}]"))
        return 0
    if options.verb != "check":
        possible(options)
    makes: dict[str, Callable[[argparse.Namespace], None]] = {"all": run, "run": run, "audit": audit}
    if options.verb in makes:
        makes[options.verb](options)
    answers = draw(options) if options.verb in ("all", "draw", "audit") else {}
    problems = check(options) if options.verb in ("all", "check") else []
    if options.verb != "check":
        suite.write_manifest(options.out, time.perf_counter() - start)
    if answers:
        report(options, answers)
    for problem in problems:
        console.print(Text(problem, style="red"))
    if options.verb in ("all", "check") and not problems:
        console.print("Every table is there and current.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
