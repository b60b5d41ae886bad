"""The page ``report.html``: figures, tables that sort, ledger, glossary and provenance in one self-contained file."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from analysis import results, typeset

ROWS = 200  # more of a table is not readable on a page; the file beside it has the rest
SAID = {"statement", "reading", "tested", "case"}  # columns of sentences, which spell mathematics out
LEDGER = ["id", "statement", "reading", "verdict", "value", "interval", "limit", "source"]


@dataclass(frozen=True)
class Entry:
    """A figure on the page.

    Attributes
    ----------
    name : of the figure and of its files
    suite : under which it stands
    question, headline, caption : what it asks, its answer in a sentence, and its whole caption
    tables : names of the tables that it is drawn from
    quick : whether they are of a quick run
    """

    name: str
    suite: str
    question: str
    headline: str
    caption: str
    tables: tuple[str, ...] = ()
    quick: bool = False


@dataclass(frozen=True)
class Shown:
    """A table as the page shows it: its header, the texts and sort keys of its first rows, and how many there are."""

    name: str
    columns: list[str]
    rows: list[list[tuple[str, str]]]
    count: int


def write_page(out: Path, entries: Sequence[Entry], glossary: pd.DataFrame) -> Path:
    """Write ``out/report.html`` from the figures and tables below ``out``.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    FileNotFoundError, analysis.results.TableError
        If a table or a picture is not there or cannot be read.
    analysis.results.WriteError
        If the file cannot be written.
    """
    path, text = out / "report.html", page(out, entries, glossary)
    results.write_text(path, text)
    return path


def page(out: Path, entries: Sequence[Entry], glossary: pd.DataFrame) -> str:
    """Build the page.

    Parameters
    ----------
    out : folder that holds ``figures/NAME.png``, ``tables/NAME.parquet`` and, if claims were measured, ``claims.json``
    entries : the figures, in the order in which they are shown
    glossary : columns kind, key, name, meaning, source

    Returns
    -------
    str
        Its HTML.
    """
    names = sorted({table for entry in entries for table in entry.tables})
    read = {name: results.read_with_provenance(out / "tables" / f"{name}.parquet") for name in names}
    suites = {suite: [e for e in entries if e.suite == suite] for suite in dict.fromkeys(e.suite for e in entries)}
    content = {
        "suites": suites,
        "pictures": {entry.name: _picture(out / "figures" / f"{entry.name}.png") for entry in entries},
        "tables": [shown(name, frame) for name, (frame, _) in read.items()],
        "users": {name: [e.name for e in entries if name in e.tables] for name in names},
        "ledger": _ledger(out / "claims.json"),
        "glossary": shown("glossary", glossary),
        "provenance": shown("provenance", _provenance({name: about for name, (_, about) in read.items()})),
        "quick": any(entry.quick for entry in entries),
    }
    loader = jinja2.PackageLoader("analysis.report", ".")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    return environment.get_template("page.html").render(content)


def shown(name: str, frame: pd.DataFrame) -> Shown:
    """Return the first rows of a table as texts and sort keys."""
    head = frame.head(ROWS)
    columns = [[_cell(value, column in SAID) for value in head[column]] for column in head]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return Shown(name, [str(column) for column in frame.columns], rows, len(frame))


def _cell(value: Any, said: bool = False) -> tuple[str, str]:
    """Return a value's text, with four significant digits, or with its symbols if it is said, and its sort key."""
    if said and isinstance(value, str):
        return Markup(typeset.symbols(value)), value  # escaped there
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(part)[0] for part in value), str(value[0]) if value else ""
    if not isinstance(value, str) and pd.isna(value):
        return "", ""
    if isinstance(value, float):
        return typeset.number(value, ".4g"), f"{value:.4g}".replace("-", "−")
    return str(value), str(value)


def _picture(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _ledger(path: Path) -> Shown | None:
    if not path.exists():
        return None
    frame = pd.DataFrame(results.read_json(path))
    return shown("ledger", frame[[column for column in LEDGER if column in frame]])


def _provenance(known: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return one row for each table: commit, whether files differed from it, versions, device, seed, options."""
    rows = []
    for name, about in known.items():
        row: dict[str, Any] = {"table": name}
        for key in ("commit", "dirty", "device", "seed"):
            row[key] = about.get(key)
        versions = about.get("versions") or {}
        row["versions"] = ", ".join(f"{package} {version}" for package, version in versions.items())
        row |= about.get("options") or {}
        rows.append(row)
    return pd.DataFrame(rows)
