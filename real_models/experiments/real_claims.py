"""The ledger once more, on the learned flow: every claim that needs no closed form, in float64 on the CPU."""

from __future__ import annotations

import functools

import pandas as pd

from analysis.claims import STATEMENTS, Claim, ledger, place
from analysis.experiment import Cell
from analysis.settings import Options
from real_models.claims.learned import FACTORY, MEASURES, Learned

SUITE = "images"
QUICK = ("T1a",)  # the others need a truth, which is dear
LEFT_OUT = {"D3": "it is about one Gaussian", "D1": "of it, the part with D in front needs whole Jacobians"}


def cells(options: Options) -> list[Cell]:
    """Return one cell per claim; its problem is the claim's id."""
    ids = QUICK if options.quick else sorted(MEASURES, key=place)
    extra = (("quick", options.quick),)
    return [Cell(f"{__name__}:measure", FACTORY, id, "", (), 0, seed=options.seed, extra=extra) for id in ids]


def measure(cell: Cell) -> pd.DataFrame:
    """Return the cases of one claim."""
    cases = functools.partial(MEASURES[cell.problem], Learned(cell.factory))
    return Claim(cell.problem, *STATEMENTS[cell.problem], cases).rows(bool(cell.extra_dict["quick"]), cell.seed)


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Judge the claims: one row each, and count those that hold as printed or in a reading."""
    judged = ledger(table)
    counts = {"claims": len(judged), "claims_hold": int(judged["standing"].sum())}
    return {"ledger": judged, "facts": pd.DataFrame([counts])}
