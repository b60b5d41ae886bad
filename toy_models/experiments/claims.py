"""The ledger: every claim of the theory measured, judged, and written as claims.json and a LaTeX table."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

import toy_models.claims  # noqa: F401 (registers them)
from analysis import results
from analysis.claims import CLAIMS, HOLDS, ledger, place
from analysis.experiment import Cell
from analysis.settings import Options

SPECIALS = {c: rf"\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}
RULES = {"at most": r"$\le$", "at least": r"$\ge$", "near": r"$\approx$"}
WIDTHS = (0.34, 0.13, 0.12, 0.25)  # of the text, for the columns that wrap


def cells(options: Options) -> list[Cell]:
    """Return one cell per claim; its problem is the claim's id. Claims are about float64 on the CPU."""
    factory, extra = "toy_models.problems.zoo:subject", (("quick", options.quick),)
    ids = sorted(CLAIMS, key=place)
    return [Cell(f"{__name__}:measure", factory, id, "", (), 0, seed=options.seed, extra=extra) for id in ids]


def measure(cell: Cell) -> pd.DataFrame:
    """Return the cases of one claim."""
    return CLAIMS[cell.problem].rows(bool(dict(cell.extra)["quick"]), cell.seed)


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Judge the claims: one row each."""
    return {"ledger": ledger(table)}


def write(tables: Mapping[str, pd.DataFrame], out: Path) -> None:
    """Write ``out/claims.json`` and ``out/tables/claims_ledger.tex`` from the judged claims."""
    ledger = tables["ledger"]
    results.write_json(out / "claims.json", [entry(row) for row in ledger.to_dict("records")])
    text = latex(ledger).encode()
    results.write_whole(out / "tables" / "claims_ledger.tex", lambda file: file.write(text))


def entry(row: Mapping[str, object]) -> dict[str, object]:
    """Return a row of the ledger as strict JSON has it: an interval in place of two columns, null in place of NaN."""
    plain = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in row.items()}
    interval = [plain.pop("low"), plain.pop("high")]
    return plain | {"interval": interval}


def escape(text: str) -> str:
    """Return text with the characters that LaTeX reads as commands taken literally, and named Greek letters set."""
    literal = "".join(SPECIALS.get(c, c) for c in text)
    found = re.sub(r"(?<![A-Za-z])([dD]?)(alpha|gamma|sigma|zeta|eta|lambda|Phi)(?![a-z])", r"\1$\\\2$", literal)
    return re.sub(r"(?<![A-Za-z])grad(?![a-z])", r"$\\nabla$", found)


def latex(ledger: pd.DataFrame) -> str:
    """Return the ledger as a booktabs table: id, statement, number, what it is held to, verdict with its reading."""
    columns = "".join(rf"p{{{width}\linewidth}}" for width in WIDTHS)
    head = " & ".join(("", "Statement", "Measured", "Held to", "Verdict"))
    lines = [rf"\begin{{tabular}}{{l{columns}}}", r"\toprule", rf"{head} \\", r"\midrule"]
    lines += [" & ".join(_fields(row)) + r" \\" for _, row in ledger.iterrows()]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _fields(row: pd.Series) -> list[str]:
    number = f"{row['value']:.3g}" if math.isfinite(row["value"]) else "no number"
    if row["low"] < row["high"]:
        number += f" [{row['low']:.3g}, {row['high']:.3g}]"
    slack = rf" $\pm$ {row['tolerance']:.2g}" if row["tolerance"] else ""
    verdict = row["verdict"] if row["verdict"] == HOLDS else f"{row['verdict']}: {row['reading']}"
    held = f"{RULES[row['rule']]} {row['limit']:.3g}{slack}"
    return [row["id"], escape(row["statement"]), number, held, escape(verdict)]
