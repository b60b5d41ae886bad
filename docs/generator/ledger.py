"""The ledger of the theory in words: statements, sources and readings, with the outcome of the published run."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pandas as pd

from analysis import typeset
from analysis.claims import NO_READING, STATEMENTS, judge
from docs.generator.markdown import linked

ROOT = Path(__file__).parents[2]
WORDS = ROOT / "docs" / "data" / "claims.toml"
CASES = ROOT / "figures" / "published" / "tables" / "claims.parquet"


def words() -> dict[str, str]:
    """Return each claim in plain words."""
    return tomllib.loads(WORDS.read_text(encoding="utf-8"))


def symbols(text: str) -> str:
    """Return a text for Markdown, with the mathematics that it spells out set as HTML."""
    return typeset.symbols(text).replace("*", "\\*").replace("|", "&#124;")


def ledger() -> str:
    """Return a section for each claim."""
    plain, cases = words(), pd.read_parquet(CASES)
    return "\n\n".join(_claim(id, plain[id], cases[cases["id"] == id]) for id in STATEMENTS)


def _claim(id: str, plain: str, cases: pd.DataFrame) -> str:
    statement, judged = STATEMENTS[id], judge(cases)
    parts = [f"## {id}", plain, f"> {symbols(statement.statement)}", f"*Source:* {_place(statement.source)}."]
    parts += [f"*Verdict:* **{judged['verdict'] if judged['standing'] else NO_READING}**."]
    return "\n\n".join([*parts, "\n".join(_readings(cases))])


def _place(source: str) -> str:
    paper, mark, id = source.partition(" (")
    return linked(paper) + mark + id


def _readings(cases: pd.DataFrame) -> list[str]:
    """Return a line for each reading: what it is, and how many of its cases pass."""
    return [
        f"- {'' if reading.startswith(kind) else f'{kind}: '}{symbols(reading)} — "
        f"{int(rows['passed'].sum())} of {len(rows)} cases pass"
        for (kind, reading), rows in cases.groupby(["kind", "reading"], sort=False)
    ]
