"""The ledger: every claim of the theory measured, judged, and written as claims.json."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import toy_models.claims  # noqa: F401 (registers them)
from analysis import results
from analysis.claims import CLAIMS, FAILS, HOLDS, HOLDS_SO, ledger, place
from analysis.experiment import Cell
from analysis.settings import Options
from analysis.tables import only

SUITE = "theory"
NAMES = {HOLDS: "holds", HOLDS_SO: "in_reading", FAILS: "not_as_printed"}  # of verdicts, as columns


def cells(options: Options) -> list[Cell]:
    """Return one cell per claim; its problem is the claim's id. Claims are about float64 on the CPU."""
    own: dict[str, Any] = {"measure": f"{__name__}:measure", "seed": options.seed}
    own["extra"] = (("quick", options.quick),)
    return [Cell(problem=id, **own) for id in sorted(CLAIMS, key=place)]


def measure(cell: Cell) -> pd.DataFrame:
    """Return the cases of one claim."""
    return CLAIMS[cell.problem].rows(bool(cell.extra_dict["quick"]), cell.seed)


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Judge the claims, one row each; count the verdicts, and give the share of its allowance that each case uses."""
    judged = ledger(table)
    return {"ledger": judged, "shares": shares(table, judged), "facts": facts(table, judged)}


def shares(table: pd.DataFrame, judged: pd.DataFrame) -> pd.DataFrame:
    """Select the cases that the figure shows, with their shares of the allowance: at most 1 where a case passes.

    The column ``mark`` is "decides" for the case that decides a claim, "reading" for the cases of that reading, and
    "failed" for failing cases of the statement as printed.

    Returns
    -------
    DataFrame
        One row per case.
    """
    chosen = table.merge(judged[["id", "tested"]].rename(columns={"tested": "reading"}))
    failed = table[(table["kind"] == "as printed") & ~table["passed"]]
    marks = {"failed": failed, "reading": chosen, "decides": judged}
    return pd.concat([rows[["id"]].assign(mark=mark, share=used(rows)) for mark, rows in marks.items()])


def used(rows: pd.DataFrame) -> pd.Series:
    """Return the share of its allowance that each case uses: at most 1 where it passes, infinite without a number."""
    limit, slack = rows["limit"], rows["tolerance"]
    share = {
        "at most": rows["high"] / (limit + slack),
        "at least": (limit - slack) / rows["low"].where(rows["low"] > 0, 0.0),
        "near": pd.concat([limit - rows["low"], rows["high"] - limit], axis=1).max(axis=1, skipna=False) / slack,
    }
    return (
        pd.concat([values[rows["rule"] == rule] for rule, values in share.items()]).reindex(rows.index).fillna(np.inf)
    )


def facts(table: pd.DataFrame, judged: pd.DataFrame) -> pd.DataFrame:
    """Count and name the claims by verdict."""
    row: dict[str, Any] = {"claims": len(judged), "cases": len(table)}
    for verdict, name in NAMES.items():
        some = only(judged[judged["standing"]], verdict=verdict)
        row |= {name: len(some), f"{name}_ids": ", ".join(some["id"])} if len(some) else {}
    if not judged["standing"].all():
        row["fails_ids"] = ", ".join(judged.loc[~judged["standing"], "id"])
    return pd.DataFrame([row])


def write(tables: Mapping[str, pd.DataFrame], out: Path) -> None:
    """Write ``out/claims.json`` from the judged claims."""
    results.write_json(out / "claims.json", [entry(row) for row in tables["ledger"].to_dict("records")])


def entry(row: Mapping[str, object]) -> dict[str, object]:
    """Return a row of the ledger in strict JSON: an interval in place of two columns, null in place of NaN."""
    plain = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in row.items()}
    interval = [plain.pop("low"), plain.pop("high")]
    return plain | {"interval": interval}
