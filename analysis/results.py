"""Tidy tables on disk: parquet with provenance and a checksum inside, and CSV beside it; files are written atomically.

This module never imports torch; figures need nothing else of this package.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

METADATA, CHECKSUM = b"guidance-gradients", b"guidance-gradients-checksum"
CSV_ROWS = 50_000  # a longer table is too big to read as text
TEMPORARY = re.compile(r"\..+\.(?P<host>[^.]*)-(?P<process>\d+)\.[0-9a-f]{8}\.tmp")
ABANDONED = 24 * 3600.0  # seconds after which a temporary file of another machine is nobody's


class TableError(ValueError):
    """A table cannot be read, or was changed after it was written; the message names the file and the remedy."""


class WriteError(OSError):
    """A file cannot be written; the message names it and says why."""


def write_whole(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then move it there; a failure leaves no file behind.

    Raises
    ------
    WriteError
        If the file system refuses: a full disk, no permission, a folder in the file's place.
    """
    temporary = path.with_name(
        f".{path.name}.{platform.node().replace('.', '_')}-{os.getpid()}.{secrets.token_hex(4)}.tmp"
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                write(file)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise WriteError(error.errno or errno.EIO, f"cannot write {path}: {reason}") from error


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of ended runs from ``folder``."""
    for path in folder.glob(".*.tmp"):
        if match := TEMPORARY.fullmatch(path.name):
            here = match["host"] == _host()
            try:
                old = time.time() - path.stat().st_mtime > ABANDONED
                if old or (here and not _runs(int(match["process"]))):
                    path.unlink()
            except FileNotFoundError:
                continue  # its run has just finished with it


def _host() -> str:
    return platform.node().replace(".", "_")


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8; raises what ``write_whole`` does."""
    write_whole(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON; raises what ``write_whole`` does."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_json(path: Path) -> Any:
    """Read a file of JSON.

    Returns
    -------
    Any
        What it holds.

    Raises
    ------
    TableError
        If it cannot be read, such as a file that was cut off.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:  # also of bytes that are no text
        raise TableError(f"{path}: the file cannot be read ({error}); remove it and run again") from error


def write_table(frame: pd.DataFrame, path: Path, provenance: Mapping[str, Any], *, csv: bool = True) -> None:
    """Write a table as ``path`` (.parquet, provenance in its metadata) and, unless long or told not to, as CSV."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    encoded = json.dumps(provenance, sort_keys=True).encode()
    known = {METADATA: encoded, CHECKSUM: _checksum(table, encoded)}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **known})
    write_whole(path, lambda file: pq.write_table(table, file))
    if csv and len(frame) <= CSV_ROWS:
        write_text(path.with_suffix(".csv"), frame.to_csv(index=False))


def _checksum(table: pa.Table, provenance: bytes) -> bytes:
    """Return a checksum of columns, types, all values in order, and the provenance."""
    frame, digest = table.to_pandas(), hashlib.sha256(provenance)
    types = [[str(name), str(frame[name].dtype), table.schema.field(name).type.id] for name in frame]
    digest.update(json.dumps(types).encode())
    for name in frame:
        digest.update(pd.util.hash_pandas_object(frame[name], index=False).to_numpy().tobytes())
    return digest.hexdigest().encode()


def read_table(path: Path) -> pd.DataFrame:
    """Read a table.

    Returns
    -------
    DataFrame
        The table.

    Raises
    ------
    FileNotFoundError
        If there is no file; the message names the command that makes it.
    TableError
        If the file is not a table, is truncated, or was changed after it was written.
    """
    return read_with_provenance(path)[0]


def read_provenance(path: Path) -> dict[str, Any]:
    """Read the provenance inside a table; raises what ``read_table`` does."""
    return read_with_provenance(path)[1]


def read_with_provenance(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read a table and its provenance.

    Returns
    -------
    tuple
        The table, and its provenance.

    Raises
    ------
    TypeError
        For a path of another kind.
    FileNotFoundError
        If there is no file.
    TableError
        As ``read_table`` does.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be that of a table, got {type(path).__name__}")
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there; `python reproduce.py run` makes it")
    try:
        with open(path, "rb") as file:
            table = pq.read_table(file)
        known = table.schema.metadata or {}
        encoded = known.get(METADATA, b"{}")
        frame, provenance, checksum = table.to_pandas(), json.loads(encoded), _checksum(table, encoded)
    except Exception as error:  # what a damaged file makes the reader do is not known beforehand
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        reason = reason.removeprefix("Could not open Parquet input source '<Buffer>': ")
        raise TableError(f"{path}: the table cannot be read ({reason}); remove it and run again") from error
    if known.get(CHECKSUM) != checksum:
        raise TableError(f"{path}: the table was changed after it was written; remove it and run again")
    return frame, provenance
