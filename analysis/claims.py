"""The ledger: every statement of the theory as a claim that is measured, judged and written down.

A claim is a function that yields ``Case`` rows, each a number with its interval and the limit it is held to, under a
*reading* of the statement: as printed, another reading of the same words, or what holds instead. A reading holds where
all its cases do. The verdict follows from the readings and from nothing else, so a broken estimator changes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import pandas as pd

from analysis import checks

PRINTED, READING, INSTEAD = KINDS = ("as printed", "reading", "instead")
HOLDS, HOLDS_SO, FAILS = VERDICTS = ("holds", "holds in this reading", "does not hold as printed")
NOTHING = "none of the readings measured here holds"
RULES: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "at most": lambda rows: rows["high"] <= rows["limit"] + rows["tolerance"],
    "at least": lambda rows: rows["low"] >= rows["limit"] - rows["tolerance"],
    "near": lambda rows: (
        (rows["low"] - rows["tolerance"] <= rows["limit"]) & (rows["limit"] <= rows["high"] + rows["tolerance"])
    ),
}


@dataclass(frozen=True)
class Case:
    """One measured number under one reading of a claim.

    Attributes
    ----------
    kind : one of ``KINDS``
    reading : the statement in this reading, one sentence
    case : what was measured: problem, path, solver ...
    value, low, high : the number and its interval (95 % where it is a fit; value itself where nothing is random)
    limit, rule, tolerance : what the interval is held to, see ``RULES``; a tolerance is in units of the value
    """

    kind: str
    reading: str
    case: str
    value: float
    low: float
    high: float
    limit: float
    rule: str = "at most"
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        checks.known("kind", self.kind, KINDS)
        checks.known("rule", self.rule, RULES)


@dataclass(frozen=True)
class Claim:
    """A statement, its source, and the measurement: a function of ``quick`` and ``seed`` that yields cases."""

    id: str
    statement: str
    source: str
    measure: Callable[[bool, int], Iterable[Case]]

    def rows(self, quick: bool, seed: int) -> pd.DataFrame:
        """Measure the claim: one row per case, with ``passed``."""
        frame = pd.DataFrame([asdict(case) for case in self.measure(quick, seed)])
        frame.insert(0, "id", self.id)
        frame["passed"] = False
        for rule, found in frame.groupby("rule"):
            frame.loc[found.index, "passed"] = RULES[str(rule)](found)
        return frame


CLAIMS: dict[str, Claim] = {}


def claim(id: str, statement: str, source: str) -> Callable[[Callable[[bool, int], Iterable[Case]]], Claim]:
    """Enter a measurement in the ledger under an id that is not taken."""

    def add(measure: Callable[[bool, int], Iterable[Case]]) -> Claim:
        if id in CLAIMS:
            raise ValueError(f"id {id!r} is taken by another claim")
        CLAIMS[id] = Claim(id, statement, source, measure)
        return CLAIMS[id]

    return add


def judge(rows: pd.DataFrame) -> dict[str, object]:
    """Return the verdict on one claim's rows, with the number that decides: the reading's case nearest to its limit."""
    passing = rows.groupby("reading")["passed"].transform("all")
    for kind, verdict in zip(KINDS, VERDICTS, strict=True):
        found = rows[(rows["kind"] == kind) & passing]
        if len(found):
            return _entry(found[found["reading"] == found["reading"].iloc[0]], verdict, str(found["reading"].iloc[0]))
    failed = rows[~rows["passed"]]
    return _entry(failed[failed["reading"] == failed["reading"].iloc[0]], FAILS, NOTHING)


def _entry(rows: pd.DataFrame, verdict: str, reading: str) -> dict[str, object]:
    row = rows.loc[margin(rows).idxmin()]
    value = {key: float(row[key]) for key in ("value", "limit", "tolerance")}
    interval = [float(row["low"]), float(row["high"])]
    return value | {
        "id": row["id"],
        "interval": interval,
        "rule": row["rule"],
        "case": row["case"],
        "cases": len(rows),
        "verdict": verdict,
        "reading": reading,
        "standing": reading != NOTHING,
    }


def margin(rows: pd.DataFrame) -> pd.Series:
    """Return how far each case is from failing, as a fraction of its limit (of 1 where the limit is 0)."""
    scale = rows["limit"].abs().where(rows["limit"] != 0, 1.0)
    room = {
        "at most": rows["limit"] + rows["tolerance"] - rows["high"],
        "at least": rows["low"] - rows["limit"] + rows["tolerance"],
        "near": rows["tolerance"] - (rows["value"] - rows["limit"]).abs(),
    }
    found = pd.Series(math.nan, index=rows.index)
    for rule, value in room.items():
        found = found.where(rows["rule"] != rule, value / scale)
    return found.fillna(-math.inf)


def ledger(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per claim, in the order of ``rows``: statement, source, number, limit, verdict and reading."""
    entries = []
    for id, found in rows.groupby("id", sort=False):
        known = CLAIMS[str(id)]
        entries.append({"statement": known.statement, "source": known.source} | judge(found))
    frame = pd.DataFrame(entries)
    first = ["id", "statement", "source", "value", "interval", "limit", "verdict", "reading"]
    return frame[[*first, *(c for c in frame.columns if c not in first)]]
