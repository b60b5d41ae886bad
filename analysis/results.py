"""Tidy tables on disk: parquet with provenance inside, CSV beside it, each file written whole or not at all.

This module never imports torch: it is all that figures need.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

METADATA = b"guidance-gradients"
CSV_ROWS = 50_000  # a longer table is too big to read as text


def write_whole(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then move it there; nothing is left behind on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        os.chmod(name, 0o644)  # mkstemp makes it private
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON."""
    text = json.dumps(value, indent=2, sort_keys=True) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def write_table(frame: pd.DataFrame, path: Path, provenance: Mapping[str, Any], *, csv: bool = True) -> None:
    """Write a table as ``path`` (.parquet, provenance in its metadata) and, unless long or told not to, as CSV."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    encoded = json.dumps(provenance, sort_keys=True).encode()
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), METADATA: encoded})
    write_whole(path, lambda file: pq.write_table(table, file))
    if csv and len(frame) <= CSV_ROWS:
        text = frame.to_csv(index=False)
        write_whole(path.with_suffix(".csv"), lambda file: file.write(text.encode()))


def read_table(path: Path) -> pd.DataFrame:
    """Read a table; raises ``FileNotFoundError`` naming the command that makes it."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there; `python reproduce.py run` makes it")
    return pq.read_table(path).to_pandas()


def read_provenance(path: Path) -> dict[str, Any]:
    """Read the provenance inside a table."""
    return json.loads((pq.read_schema(path).metadata or {}).get(METADATA, b"{}"))
