"""Figures, captions and printed tables on disk, of a module with ``TABLES``, ``QUESTION``, ``answer`` and ``draw``."""

from __future__ import annotations

import importlib
from functools import partial
from pathlib import Path

from analysis import results

KINDS = {"pdf": {"CreationDate": None}, "png": {"Software": None}}  # without dates, so that bytes repeat


def write(out: Path, module: str) -> str:
    """Draw a figure from its tables below ``out``, write it with its caption, and return its answer.

    Parameters
    ----------
    out : the folder of a run, with ``tables``; the figure and its caption go to ``figures`` there
    module : name of the figure's module; it may define ``latex(tables) -> {name: text}``, written beside the tables

    Raises
    ------
    FileNotFoundError, analysis.results.TableError
        Where a table is not there or cannot be read.
    analysis.results.WriteError
        Where a file cannot be written.
    """
    from matplotlib import pyplot as plt

    figure = importlib.import_module(module)
    tables = {name: results.read_table(out / "tables" / f"{name}.parquet") for name in figure.TABLES}
    answer, drawing, base = figure.answer(tables), figure.draw(tables), out / "figures" / module.rpartition(".")[2]
    for kind, metadata in KINDS.items():
        results.write_whole(base.with_suffix(f".{kind}"), partial(drawing.savefig, format=kind, metadata=metadata))
    plt.close(drawing)
    results.write_text(base.with_suffix(".txt"), f"{figure.QUESTION} {answer}\n")
    for name, text in figure.latex(tables).items() if hasattr(figure, "latex") else ():
        results.write_text(out / "tables" / f"{name}.tex", text)
    return str(answer)
