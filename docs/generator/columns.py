"""The data dictionary of the tables, from ``docs/data/columns.toml``, and the glossary for columns of operators."""

from __future__ import annotations

import functools
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from docs.generator.markdown import code, table
from figures.style import names

FILE = Path(__file__).parents[1] / "data" / "columns.toml"
PRINTED = "_paper"  # the end of the names of tables to print, which have a column for each operator


@functools.cache
def dictionary() -> dict[str, Any]:
    """Return the file: "columns" of any table, and "tables" with what each is about and its own columns."""
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def meaning(name: str, column: str) -> str | None:
    """Return what a column of a table means, or nothing where the dictionary does not say."""
    own = dictionary()["tables"].get(name, {}).get("columns", {})
    if name.endswith(PRINTED) and column in names.OPERATORS:
        return f"{names.of('operators', column)}: mean [interval]."
    pattern = next((key for key in own if fnmatchcase(column, key)), column)
    return own.get(column) or own.get(pattern) or dictionary()["columns"].get(column)


def common_columns() -> str:
    """Return the columns that mean the same in every table that has them."""
    return table(("column", "meaning"), [(code(k), v) for k, v in dictionary()["columns"].items()])


def tables() -> str:
    """Return every table: what it is about, and its own columns."""
    parts = []
    for name, entry in dictionary()["tables"].items():
        rows = [(code(column), text) for column, text in entry.get("columns", {}).items()]
        parts += [f"### {name}", entry["about"], *([table(("column", "meaning"), rows)] if rows else [])]
    return "\n\n".join(parts)
