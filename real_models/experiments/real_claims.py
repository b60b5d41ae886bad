"""The ledger once more, on the learned flow of images: every claim that needs no closed form, in float64 on the CPU."""

from __future__ import annotations

import functools

import pandas as pd

from analysis.claims import STATEMENTS, Claim, ledger, place
from analysis.experiment import Cell
from analysis.settings import Options
from real_models.claims.learned import MEASURES, Learned

SUITE = "images"
QUICK = ("T1a",)  # the others need a truth, which is dear
LEFT_OUT = {"D3": "it is about one Gaussian", "D1": "of it, the part with D in front needs whole Jacobians"}
IMAGES = Learned()


def cells(options: Options) -> list[Cell]:
    """Return one cell per claim; its problem is the claim's id."""
    return cells_on(IMAGES, options)


def cells_on(learned: Learned, options: Options) -> list[Cell]:
    """Return one cell per claim on a learned flow."""
    ids = QUICK if options.quick else sorted(MEASURES, key=place)
    about = {"quick": options.quick, "flow": learned.problem, "smooth": learned.smooth, "resolved": learned.resolved}
    extra = tuple(about.items())
    return [Cell(f"{__name__}:measure", learned.factory, id, "", (), 0, seed=options.seed, extra=extra) for id in ids]


def measure(cell: Cell) -> pd.DataFrame:
    """Return the cases of one claim."""
    extra = cell.extra_dict
    learned = Learned(cell.factory, *(extra[name] for name in ("flow", "smooth", "resolved")))
    cases = functools.partial(MEASURES[cell.problem], learned)
    return Claim(cell.problem, *STATEMENTS[cell.problem], cases).rows(bool(extra["quick"]), cell.seed)


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Judge the claims: one row each, and count those that hold as printed or in a reading."""
    judged = ledger(table)
    counts = {"claims": len(judged), "claims_hold": int(judged["standing"].sum())}
    return {"ledger": judged, "facts": pd.DataFrame([counts])}
