"""A folder as a run leaves it, small and written by hand."""

import json
import struct
import zlib

import pandas as pd

from analysis import results
from analysis.report import Entry

ENTRIES = [
    Entry(
        "error",
        "theory",
        "How wrong is it?",
        "Greedy errs by 2 <of 3>.",
        "Greedy errs by 2 <of 3>. a, b.",
        ("error", "error_facts"),
    ),
    Entry("cost", "images", "What does it cost?", "", "Nothing.", ("error",)),
]
GLOSSARY = pd.DataFrame(
    [{"kind": "methods", "key": "greedy", "name": "greedy", "meaning": "one step", "source": "a paper"}]
)
CLAIM = {
    "id": "P1",
    "statement": "errors fall",
    "source": "a paper",
    "value": 2.0,
    "interval": [1.9, 2.1],
    "limit": 2.0,
}
CLAIM |= {"verdict": "holds", "reading": "as printed", "cases": 4}
ROWS = pd.DataFrame({"method": ["greedy", "a & <b>", "none"], "error": [0.123456, -2e10, None], "count": [3, 10, 0]})
ABOUT = {
    "commit": "abc",
    "dirty": False,
    "device": "cpu x",
    "seed": 7,
    "versions": {"torch": "2"},
    "options": {"quick": True},
}


def small_run(folder):
    """Write two figures, two tables and a claim below ``folder``, and return it."""
    for name in ("tables", "figures"):
        (folder / name).mkdir()
    results.write_table(ROWS, folder / "tables" / "error.parquet", ABOUT)
    results.write_table(pd.DataFrame({"slope": [2.0]}), folder / "tables" / "error_facts.parquet", ABOUT)
    for entry in ENTRIES:
        (folder / "figures" / f"{entry.name}.png").write_bytes(_pixel())
    (folder / "claims.json").write_text(json.dumps([CLAIM]))
    return folder


def _pixel():
    """Return a grey picture of one pixel, as PNG."""
    parts = {b"IHDR": struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0), b"IDAT": zlib.compress(b"\0\x80"), b"IEND": b""}
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts.items()
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
