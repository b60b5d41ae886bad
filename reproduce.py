"""Rerun the figures: tables, then figures, each found by its name.

python reproduce.py                        compute, draw and check the suite "theory", and say what came out
python reproduce.py run NAME ...           the same for others: a suite (guidance, images, all), a figure, an experiment
python reproduce.py compute [NAME ...]     the tables alone (finished cells are reused)
python reproduce.py draw [NAME ...]        the figures and the report, from tables; --published: from those shipped
python reproduce.py check [NAME ...]       is every figure's table there and current? (exit code 1 if not)
python reproduce.py list [NAME ...]        what can be named, and what it takes
python reproduce.py audit MODULE:FACTORY   measure your own flow

Made only where named, since they measure this machine: bench, this package beside torchdiffeq and diffrax (extra
"bench"), and, with --device cuda, gpu_cost, seconds, bytes and round-off of gradients, and gpu_bench, gradients of
mixtures beside their matrix products.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

KEPT = "finished cells are kept"


def _say_stopped(error: BaseException) -> None:
    """Say in one line that Ctrl-C has been pressed, and what is kept."""
    print(f"\nstopped; {str(error) or KEPT}; the same command goes on", file=sys.stderr, flush=True)


def _stopped(kind: type[BaseException], error: BaseException, trace: object) -> None:
    """End at Ctrl-C in one line also while modules are imported."""
    if issubclass(kind, KeyboardInterrupt):
        _say_stopped(error)
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

import shutil
import time
from argparse import Namespace
from typing import Any

from rich.text import Text

import figures  # noqa: F401  # this and the next two enter their names
import real_models.experiments  # noqa: F401
import toy_models.experiments  # noqa: F401
from analysis import audit as audits
from analysis import catalogue, figure_files, registration, results, suite
from analysis.catalogue import tables_of
from analysis.command_line import DRAWS, MAKES, VERBS, Lines, making, output, parsers, possible
from analysis.registration import FIGURES
from analysis.report import write_macros, write_page
from analysis.settings import Options
from analysis.spelling import meant
from analysis.tables import FACTS
from analysis.users_code import PluginError
from analysis.workers import Workers, WorkersError
from figures.style import names as glossary
from toy_models.mixtures import compiled_solve

PUBLISHED = Path(__file__).parent / "figures" / "published"
FAILURES = (WorkersError, PluginError, audits.AuditError, results.TableError, OSError)
SHOWN = 20  # problems that check names; the others are counted
console = Lines(emoji=False)  # "module:factory:" is no picture of one


def parse(arguments: Sequence[str]) -> Namespace:
    """Parse the command line, which without a verb is ``run``."""
    (whole, verbs), given = parsers(__doc__ or ""), [*arguments]
    if given and given[0] in ("-h", "--help", "--version"):
        whole.parse_args(given)
    verb = given.pop(0) if given and given[0] in VERBS else "run"
    options, refuse = verbs[verb].parse_intermixed_args(given), verbs[verb].error
    options.verb = verb
    try:
        catalogue.load(getattr(options, "plugin", ()))
    except ImportError as error:
        refuse(f"argument --plugin: {error}")
    if verb == "audit":
        options.names = catalogue.AUDIT
    elif unknown := catalogue.unknown(options.names):
        known = f"the suites are {', '.join(suite.SUITES)} and all, the figures {', '.join(sorted(FIGURES))}"
        near = meant(unknown[0], {*VERBS, *suite.SUITES, *FIGURES, *registration.EXPERIMENTS} - {unknown[0]})
        refuse(f"argument NAME: {', '.join(unknown)} unknown (verbs come first){near}; {known}")
    elif idle := [name for name in options.names if not catalogue.selected([name])]:
        refuse(f"argument NAME: no figure shows {', '.join(idle)}; name its tables in the TABLES of a figure")
    elif verb in MAKES and (audited := {*options.names} & {*catalogue.AUDIT}):
        refuse(f"argument NAME: {', '.join(sorted(audited))} is made by python reproduce.py audit")
    if verb in MAKES and options.scheduler and (options.backend != "dask" or options.jobs):
        refuse("argument --scheduler: needs --backend dask, and takes no --jobs: its workers are the cluster's")
    if verb != "list" and options.out is None:
        options.out = output(options)
    if verb == "audit":  # a folder each, so that audits do not replace one another
        options.out = options.out / "audit" / options.factory.replace(":", ".")
    return options


def selected(options: Namespace) -> dict[str, str]:
    """Select figures, with the suite of each: those named, else all in a list, those published, or "theory".

    Returns
    -------
    dict
        As ``catalogue.selected`` has it.
    """
    if options.names or not (options.published or options.verb == "list"):
        return catalogue.selected(options.names or ("theory",))
    every = catalogue.selected(())
    shipped = {file.stem for file in (PUBLISHED / "tables").glob("*.parquet")}
    return {n: kind for n, kind in every.items() if options.verb == "list" or shipped >= {*catalogue.figure(n).TABLES}}


def compute(options: Namespace) -> dict[str, float]:
    """Compute the tables of the selected figures; return the seconds of one core by experiment."""
    chosen = suite.makers(tables_of(selected(options)), catalogue.experiments())
    compiled_solve.installed()  # where it is not, this says so, once: workers are quiet
    spec = Options(options.quick, options.seed, options.dtype, options.device)
    return suite.make(chosen, spec, options.out, workers(options))


def audit(options: Namespace) -> dict[str, float]:
    """Audit a user's flow, and say what came out."""
    asked = ("error", "times", "samples", "quick", "seed", "device")
    given = {name: getattr(options, name) for name in asked} | {"check": not options.unchecked}
    report = audits.run(audits.AuditOptions(options.factory, **given), options.out, workers(options))
    console.print(str(report), markup=False, highlight=False, soft_wrap=True)
    return {}


def say(line: str | Text, style: str = "", **on_terminal: Any) -> None:
    """Print a line, wrapped between words, or as the options say, on terminals: what a file or a pipe gets is whole."""
    options = on_terminal if console.is_terminal else {"soft_wrap": True}
    console.print(line if isinstance(line, Text) else Text(line, style=style), **options)


def workers(options: Namespace) -> Workers:
    """Return where cells run."""
    return Workers(options.jobs or -1, options.backend, options.scheduler, environment(options))


def environment(options: Namespace) -> dict[str, str]:
    """Return the environment of processes; a quick run's compile nothing, which would take longer than it saves."""
    return {"NUMBA_DISABLE_JIT": "1"} if getattr(options, "quick", False) else {}


def draw(options: Namespace) -> None:
    """Draw the selected figures from their tables, report on all that are there, and say what each of them shows."""
    wanted, out = selected(options), options.out
    if options.published:
        (out / "tables").mkdir(parents=True, exist_ok=True)
        for file in (PUBLISHED / "tables").glob("*.parquet"):
            shutil.copyfile(file, out / "tables" / file.name)
    for name in tables_of(wanted):
        if not (place := out / "tables" / f"{name}.parquet").exists():
            told = f"no table {name} is shipped" if options.published else f"{place} is not there"
            raise results.TableError(f"{told}; `{making(options, options.names)}` makes it")
    modules = {FIGURES[name]: kind for name, kind in wanted.items()}
    entries = figure_files.write_all(
        out, modules, Workers(min(options.jobs or -1, len(wanted)), environment=environment(options))
    )
    place = write_page(out, entries, glossary.table())
    stated = [name for name in tables_of(wanted) if name.endswith(FACTS)]
    write_macros({name: results.read_table(out / "tables" / f"{name}.parquet") for name in stated}, out / "numbers.tex")
    for entry in entries:
        say(Text.assemble((entry.name, "bold"), f": {entry.headline}"), no_wrap=True, overflow="ellipsis")
    if any(entry.quick for entry in entries):
        say("These are of a quick run: they show that everything works, and are no results.")
    say(f"Figures, captions, tables and numbers.tex are in {out}; all of it in one page: {place}")


def warn_of_other_code(options: Namespace) -> None:
    """Say of how many drawn tables the code is not today's."""
    names = tables_of(selected(options))
    stale = [name for name in names if suite.out_of_date(name, options.out, {})]
    if stale:
        say(f"{len(stale)} of {len(names)} tables drawn are of other code than today's; `check` names them", "yellow")


def check(options: Namespace) -> int:
    """Say what is missing or out of date among the tables of the selected figures, and of their experiments."""
    asked = {"quick": options.quick, "dtype": options.dtype, "seed": options.seed}
    if not options.published:  # those are of several devices, which their provenance names
        asked["device"] = suite.kind_of(options.device)
    out = PUBLISHED if options.published else options.out
    drawn = tables_of(selected(options))
    own = () if options.published else suite.makers(drawn, catalogue.experiments())  # which no figure need read
    wanted = catalogue.with_others({*drawn, *own}, out / "tables")
    audited = {*tables_of(catalogue.AUDIT)}  # whose dtype is the model's own
    found = {n: suite.out_of_date(n, out, asked | {"dtype": None} if n in audited else asked) for n in wanted}
    problems = [problem for problem in found.values() if problem]
    for problem in problems[:SHOWN]:
        say(problem, "red")
    if problems:
        known = catalogue.experiments()
        stale = {*suite.makers([name for name, problem in found.items() if problem], known)}
        suites = dict.fromkeys(
            kind or name
            for name, kind in selected(options).items()
            if stale & {*suite.makers(tables_of([name]), known)}
        )
        names = options.names or (() if [*suites] == ["theory"] else suites)
        more = f"{len(problems)} of {len(wanted)} tables in {out} are not there or not current"
        made = "makes your own of them, in results" if options.published else "makes them"
        say(f"{more}; `{making(options, names)}` {made}", "red")
    else:
        console.print(f"All {len(wanted)} tables are there and current.")
    return 1 if problems else 0


def listed(options: Namespace) -> None:
    """Say what can be named: figures by suite, with their questions and what computing them takes."""
    wanted, seconds, known = selected(options), suite.core_seconds(PUBLISHED), catalogue.experiments()
    cores = Workers().count
    for kind in dict.fromkeys(wanted.values()):
        mine = [name for name, other in wanted.items() if other == kind]
        makers = suite.makers(tables_of(mine), known)
        takes, rest = sum(seconds.get(name, 0) for name in makers), [name for name in makers if name not in seconds]
        about = suite.SUITES.get(kind, "made only where they are named")
        time_said = f"; {_minutes(takes)} of one core, about {_minutes(takes / cores)} on {cores} here" if takes else ""
        time_said += f", without {', '.join(rest)}, whose time is not known" if takes and rest else ""
        say(f"{kind or 'by name'}: {about}{time_said}", "bold")
        for name in mine:
            own = sum(seconds.get(maker, 0) for maker in suite.makers(tables_of([name]), known))
            say(f"  {name}: {catalogue.figure(name).QUESTION}{f' ({_minutes(own)})' if own >= 60 else ''}")


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else "1 min"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    for stream in (sys.stdout, sys.stderr):  # a path's letters need not be in the terminal's alphabet
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")
    options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        return command(options)
    except KeyboardInterrupt as error:
        _say_stopped(error)
        return 130
    except FAILURES as error:
        print(f"error: {error.strerror if isinstance(error, results.WriteError) else error}", file=sys.stderr)
        return 1


def command(options: Namespace) -> int:
    """Do what the verb says; return the exit code."""
    start = time.perf_counter()
    if options.verb == "list":
        listed(options)
        return 0
    if options.verb == "check":
        return check(options)
    possible(options)
    cores = (audit if options.verb == "audit" else compute)(options) if options.verb in MAKES else {}
    if options.verb in DRAWS:
        draw(options)
    if options.verb == "draw":
        warn_of_other_code(options)
    suite.write_manifest(options.out, time.perf_counter() - start, cores)
    return check(options) if options.verb == "run" else 0


if __name__ == "__main__":
    sys.exit(main())
