"""The command line: its verbs, what each of them can be asked, and the lines that it prints."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from analysis import __version__, catalogue
from analysis.settings import missing_device

VERBS = {
    "run": "compute, draw, check, and say what came out",
    "compute": "compute tables",
    "draw": "draw figures from their tables",
    "check": "say which tables are not there or not current",
    "list": "name the figures",
    "audit": "measure your own flow",
}
# The verbs that measure, and those that draw.
MAKES, DRAWS = {"run", "compute", "audit"}, {"run", "draw", "audit"}


class Lines(Console):
    """What is printed; where its reader goes away, as ``| head`` does, the rest is for nobody and the work goes on."""

    def print(self, *what: Any, **how: Any) -> None:
        """Print as rich does, which makes a pipe's end that of the process, or leaves its error."""
        try:
            super().print(*what, **how)
        except (BrokenPipeError, SystemExit):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line: the usage before them would hide it."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2 and a message."""
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def jobs(text: str) -> int:
    """Read --jobs; raises ``argparse.ArgumentTypeError`` for 0."""
    if (count := int(text)) == 0:
        raise argparse.ArgumentTypeError("must not be 0; -1 is one worker per core")
    return count


def seed(text: str) -> int:
    """Read --seed; raises ``argparse.ArgumentTypeError`` for one that torch does not take."""
    if not 0 <= (value := int(text)) < 2**63:
        raise argparse.ArgumentTypeError("must be at least 0 and below 2^63")
    return value


def filled(text: str) -> str:
    """Read an argument that names something; raises ``argparse.ArgumentTypeError`` for an empty one."""
    if not text.strip():
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def folder(text: str) -> Path:
    """Read --out; raises ``argparse.ArgumentTypeError`` for an empty one, which would be the current folder."""
    return Path(filled(text))


def parsers(description: str) -> tuple[Parser, dict[str, Parser]]:
    """Return the parser of the whole, which knows help and version, and that of each verb."""
    whole = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    whole.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = whole.add_subparsers(metavar="VERB")
    verbs = {verb: subparsers.add_parser(verb, help=text, description=text) for verb, text in VERBS.items()}
    for verb, parser in verbs.items():
        if verb == "audit":
            _add_audit(parser)
        else:
            parser.add_argument("names", nargs="*", metavar="NAME", help="suite, figure or experiment (see list)")
            parser.add_argument(
                "--plugin",
                type=filled,
                action="append",
                default=[],
                metavar="MODULE",
                help="import first (analysis.registration)",
            )
        parser.set_defaults(published=False)
        if verb != "list":
            parser.add_argument("--out", type=folder, help="output folder (default: results, or results/quick)")
            parser.add_argument("--quick", action="store_true", help="less of everything: about a minute")
        if verb in MAKES | DRAWS:
            parser.add_argument("--jobs", type=jobs, help="worker processes (default: one per core)")
        if verb in MAKES | {"check"}:
            parser.add_argument("--device", type=filled, default="cpu", help="torch device (default: cpu)")
            parser.add_argument("--seed", type=seed, default=0, help="of states, losses and noise (default: 0)")
        if verb in MAKES:
            parser.add_argument(
                "--backend", choices=("loky", "dask"), default="loky", help="where cells run (default: here)"
            )
            parser.add_argument("--scheduler", type=filled, help="address of a Dask scheduler (with --backend dask)")
        if verb in (MAKES | {"check"}) - {"audit"}:
            parser.add_argument("--dtype", choices=("float32", "float64"), default="float64", help="of estimators")
        if verb in ("draw", "check"):
            parser.add_argument("--published", action="store_true", help="the tables that come with the project")
    return whole, verbs


def _add_audit(parser: argparse.ArgumentParser) -> None:
    """Add what an audit is asked."""
    parser.add_argument("factory", type=filled, help="package.module:factory, which returns your flow")
    parser.add_argument(
        "--error", type=float, default=0.05, help="relative error wanted of a lookahead (default: 0.05)"
    )
    parser.add_argument("--times", type=float, nargs="+", help="times in (0, 1) (default: 0.1 0.2 ... 0.9)")
    parser.add_argument("--samples", type=int, help="states per time (default: 32)")
    parser.add_argument("--unchecked", action="store_true", help="do not compare what was declared with the data")


def output(options: argparse.Namespace) -> Path:
    """Return the folder of results where none is given."""
    return Path("results") / ("published" if options.published else "quick" if options.quick else "")


def making(options: argparse.Namespace, names: Iterable[str]) -> str:
    """Return the command that makes the tables of these figures as they are asked for, and where."""
    if {*names} and {*names} <= {*catalogue.AUDIT}:
        return "python reproduce.py audit MODULE:FACTORY"
    words, usual = ["python", "reproduce.py", "run", *names], parsers("")[1]["run"]
    words += [word for module in getattr(options, "plugin", ()) for word in ("--plugin", module)]
    if not options.published:
        words += ["--quick"] if options.quick else []
        words += ["--out", str(options.out)] if options.out != output(options) else []
        given = {name: getattr(options, name, usual.get_default(name)) for name in ("seed", "dtype", "device")}
        words += [f"--{name}={value}" for name, value in given.items() if value != usual.get_default(name)]
    return shlex.join(words)


def possible(options: argparse.Namespace) -> None:
    """Exit with a clear message unless files can be written and torch has the device; nothing is left behind."""
    if said := unwritable(options.out):
        sys.exit(f"error: argument --out: {said}")
    if options.verb in MAKES and (said := unusable(options.device)):
        sys.exit(f"error: argument --device: {said}")


def unwritable(folder: Path) -> str | None:
    """Return a sentence where no files can be written to a folder, there or to be made, else None."""
    try:
        tempfile.TemporaryFile(dir=next(p for p in (folder, *folder.absolute().parents) if p.exists())).close()
    except OSError as error:
        return f"cannot write to {folder} ({error.strerror})"
    return None


def unusable(device: str) -> str | None:
    """Return a sentence where numbers cannot be computed on a device here, else None."""
    said = f"{device} holds no numbers" if device.startswith("meta") else missing_device(device)
    if said and ("Expected one of" in said or device.startswith("meta")):
        return f"{said.partition(' (Expected')[0]}; it must be cpu, or cuda, xpu or mps where there is one"
    first = said.partition(". ")[0] if said else ""
    return first + ")" * (first.count("(") - first.count(")")) or None
