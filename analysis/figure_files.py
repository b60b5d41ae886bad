"""Write a figure to disk, with its caption and printed tables, from the figure's module."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING

import pandas as pd
from PIL import Image

from analysis import results, users_code
from analysis.progress import Report, reported
from analysis.report import Entry
from analysis.suite import out_of_date
from analysis.workers import Workers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUICK = "Quick run: "  # short, since a caption has at most 90 words with it
COLOURS = 256
FAST = 1  # of zlib's levels: a sixth of the default's time, and more bytes


def _pdf(drawing: Figure, file: IO[bytes]) -> None:
    drawing.savefig(file, format="pdf", metadata={"CreationDate": None})  # without its date, so that bytes repeat


def _all_colours(drawing: Figure, file: IO[bytes]) -> None:
    drawing.savefig(file, format="png", pil_kwargs={"compress_level": FAST})


def _png(drawing: Figure, file: IO[bytes]) -> None:
    """Write a picture of at most 256 colours, with a third of the bytes of all of them; the eye sees no difference."""
    whole = io.BytesIO()
    _all_colours(drawing, whole)
    picture = Image.open(whole)
    few = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(file, "png", optimize=True, dpi=picture.info["dpi"])


KINDS: dict[str, Callable[[Figure, IO[bytes]], None]] = {"pdf": _pdf, "png": _png}
# What a quick run has takes less time and more bytes; a PDF is for papers, and a quick run is for none.
QUICK_KINDS = {"png": _all_colours}


def read(out: Path, module: str) -> tuple[ModuleType, dict[str, pd.DataFrame], bool]:
    """Read a figure's module and its tables below ``out``.

    Returns
    -------
    tuple
        The module, the tables by name, and whether one of them is of a quick run.

    Raises
    ------
    FileNotFoundError, analysis.results.TableError
        If a table is not there or cannot be read.
    """
    figure = importlib.import_module(module)
    known = {name: results.read_with_provenance(out / "tables" / f"{name}.parquet") for name in figure.TABLES}
    quick = any(about.get("options", {}).get("quick") for _, about in known.values())
    return figure, {name: frame for name, (frame, _) in known.items()}, quick


def write_all(out: Path, suites: Mapping[str, str], workers: Workers) -> list[Entry]:
    """Draw figures from their tables below ``out``, in parallel, and write them.

    Parameters
    ----------
    out : the folder of a run
    suites : the suite of each figure, by its module's name
    workers : where they are drawn

    Returns
    -------
    list
        The report's entries, in the order of ``suites``.

    Raises
    ------
    FileNotFoundError, analysis.results.TableError, analysis.results.WriteError
        As ``write`` raises them.
    analysis.workers.WorkersError
        If a worker is lost.
    """
    modules = [*suites]
    results.remove_abandoned(out / "figures")
    report = Report("figures", [module.rpartition(".")[2] for module in modules], workers.count, 0)
    entries: dict[str, Entry] = {}  # workers finish in any order
    with reported(report):
        for module, entry in workers.map(partial(_written, out, suites), modules):
            entries[module] = entry
            report.finish(modules.index(module))
    return [entries[module] for module in modules]


def _written(out: Path, suites: Mapping[str, str], module: str) -> tuple[str, Entry]:
    return module, write(out, module, suites[module])


def write(out: Path, module: str, suite: str = "") -> Entry:
    """Draw a figure from its tables below ``out``, and write it with its caption.

    Parameters
    ----------
    out : the folder of a run, with ``tables``; the figure and its caption go to ``figures`` there, as PDF and PNG, or
        as PNG where a table is of a quick run
    module : name of the figure's module; it may define ``latex(tables) -> {name: text}``, written beside the tables
    suite : of the figure, for the report

    Returns
    -------
    Entry
        Of the report.

    Raises
    ------
    FileNotFoundError
        Where a table is not there.
    results.TableError
        Where a table cannot be read, or is of other code and cannot be drawn by this.
    users_code.PluginError
        Where a user's figure fails.
    analysis.results.WriteError
        Where a file cannot be written.
    """
    from matplotlib import pyplot as plt

    figure, tables, quick = read(out, module)
    name, note = module.rpartition(".")[2], QUICK if quick else ""
    try:
        with users_code.one_line(users_code.file_of(figure)):
            answer, headline, drawing = figure.answer(tables), figure.answer.headline(tables), _drawn(figure, tables)
            printed = figure.latex(tables) if hasattr(figure, "latex") else {}
    except Exception as error:
        if other := [said for said in (out_of_date(table, out, {}) for table in tables) if said]:
            raise results.TableError(f"{other[0]}, and {name} cannot be drawn from it; run it again") from error
        raise
    base = out / "figures" / name
    kinds = QUICK_KINDS if quick else KINDS
    for kind in KINDS.keys() - kinds:
        base.with_suffix(f".{kind}").unlink(missing_ok=True)  # a full run's, whose tables are no longer here
    for kind, save in kinds.items():
        results.write_whole(base.with_suffix(f".{kind}"), partial(save, drawing))
        drawing.set_layout_engine("none")  # the layout of the first file serves the second
    plt.close(drawing)
    results.write_text(base.with_suffix(".txt"), f"{note}{figure.QUESTION} {answer}\n")
    for table, text in printed.items():
        results.write_text(out / "tables" / f"{table}.tex", text)
    return Entry(name, suite, figure.QUESTION, headline, f"{note}{answer}", tuple(figure.TABLES), quick)


def _drawn(figure: ModuleType, tables: dict[str, pd.DataFrame]) -> Figure:
    drawing = figure.draw(tables)
    if not hasattr(drawing, "savefig"):
        raise TypeError(f"draw(tables) must return a matplotlib figure, got {type(drawing).__name__}")
    return drawing
