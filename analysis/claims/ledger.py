"""The ledger: every statement of the theory as a claim that is measured, judged and recorded.

A claim is a function that yields ``Case`` rows: a number with its interval, and the limit that it is compared with,
under a *reading* of the statement: as printed, another reading of the same words, or a statement that holds instead. A
reading holds if all its cases pass. The verdict follows from the readings alone, so a broken estimator changes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import pandas as pd

from analysis import checks
from analysis.claims.statements import STATEMENTS

PRINTED, READING, INSTEAD = KINDS = ("as printed", "reading", "instead")
HOLDS, HOLDS_SO, FAILS = VERDICTS = ("holds", "holds in this reading", "does not hold as printed")
NO_READING = "none of the readings measured here holds"
# Where an interval comes from. A line fit runs through a few errors without noise: its interval says how far they are
# from a straight line, not how much another sample would change the slope.
DETERMINISTIC, LINE_FIT, BOOTSTRAP, RANKS = INTERVALS = ("nothing random", "line fit", "bootstrap", "ranks")
_HEADROOM: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "at most": lambda rows: rows["limit"] + rows["tolerance"] - rows["high"],
    "at least": lambda rows: rows["low"] - (rows["limit"] - rows["tolerance"]),
    "near": lambda rows: (
        rows["tolerance"] - pd.concat([rows["limit"] - rows["low"], rows["high"] - rows["limit"]], axis=1).max(axis=1)
    ),
}
RULES = tuple(_HEADROOM)


@dataclass(frozen=True)
class Case:
    """One measured number under one reading of a claim.

    Attributes
    ----------
    kind : one of ``KINDS``
    reading : the statement in this reading, one sentence
    case : what was measured: problem, path, solver ...
    value, low, high : the number and its interval, see ``interval_from``
    limit, tolerance : what the number is compared with; the tolerance is in units of the value
    rule : "at most" (high <= limit + tolerance), "at least" (low >= limit - tolerance), or "near": the whole interval
        lies within the tolerance of the limit. A number that is too uncertain to decide does not pass
    interval_from : one of ``INTERVALS``: the value alone where nothing is random; a 95 % interval of a straight line
        fitted to a few errors without noise, which measures how straight they are; of a bootstrap; of ranks

    Raises
    ------
    ValueError
        For an unknown kind, rule or origin of the interval.
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
    interval_from: str = DETERMINISTIC

    def __post_init__(self) -> None:
        checks.known("kind", self.kind, KINDS)
        checks.known("rule", self.rule, RULES)
        checks.known("interval_from", self.interval_from, INTERVALS)


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
        frame["passed"] = headroom(frame) >= 0
        return frame


CLAIMS: dict[str, Claim] = {}


def claim(id: str, statement: str, source: str) -> Callable[[Callable[[bool, int], Iterable[Case]]], Claim]:
    """Decorate a measurement to register it as a claim.

    Returns
    -------
    Callable
        The decorator.

    Raises
    ------
    ValueError
        If the id belongs to another claim.
    """

    def register(measure: Callable[[bool, int], Iterable[Case]]) -> Claim:
        if id in CLAIMS:
            raise ValueError(f"id {id!r} is taken by another claim")
        CLAIMS[id] = Claim(id, statement, source, measure)
        return CLAIMS[id]

    return register


def headroom(rows: pd.DataFrame) -> pd.Series:
    """Return the distance of each case's interval from failing its rule: negative if it fails, NaN without a number."""
    distance = pd.Series(math.nan, index=rows.index)
    for rule, measure in _HEADROOM.items():
        distance = distance.where(rows["rule"] != rule, measure(rows))
    return distance.where(rows[["value", "low", "high"]].notna().all(axis=1))


def judge(rows: pd.DataFrame) -> dict[str, object]:
    """Return the verdict on a claim's rows, with the deciding number: the reading's case nearest to its limit."""
    holds = rows.groupby("reading")["passed"].transform("all")
    for kind, verdict in zip(KINDS, VERDICTS, strict=True):
        holding = rows[(rows["kind"] == kind) & holds]
        if len(holding):
            reading = str(holding["reading"].iloc[0])
            return _entry(holding[holding["reading"] == reading], verdict, reading)
    failed = rows[~rows["passed"]]
    return _entry(failed[failed["reading"] == failed["reading"].iloc[0]], FAILS, NO_READING)


def _entry(rows: pd.DataFrame, verdict: str, reading: str) -> dict[str, object]:
    scale = rows["limit"].abs().where(rows["limit"] != 0, 1.0)
    row = rows.loc[(headroom(rows) / scale).fillna(-math.inf).idxmin()]
    numbers = {key: float(row[key]) for key in ("value", "low", "high", "limit", "tolerance")}
    return numbers | {
        "id": row["id"],
        "interval_from": row["interval_from"],
        "rule": row["rule"],
        "case": row["case"],
        "cases": len(rows),
        "verdict": verdict,
        "reading": reading,
        "tested": row["reading"],
        "standing": reading != NO_READING,
    }


def ledger(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per claim, in the order of ``rows``: statement, source, number, limit, verdict and reading."""
    entries = []
    for id, cases in rows.groupby("id", sort=False):
        entry = CLAIMS.get(str(id)) or STATEMENTS[str(id)]
        entries.append({"statement": entry.statement, "source": entry.source} | judge(cases))
    frame = pd.DataFrame(entries)
    first = ["id", "statement", "source", "value", "low", "high", "limit", "verdict", "reading"]
    return frame[[*first, *(column for column in frame.columns if column not in first)]]
