"""The ledger once more, on the learned flow: every claim that needs no closed form, in float64 on the CPU."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

import real_models.claims.orders
import toy_models.claims  # noqa: F401 (registers the statements)
from analysis import claims
from analysis.experiment import Cell
from analysis.settings import Options
from real_models.claims.exact import FACTORY, MEASURES, Learned
from toy_models.experiments import claims as analytic

QUICK = ("T1a",)  # the others need a truth, which is dear
LEFT_OUT = {"D3": "it is about one Gaussian", "D1": "of it, the part with D in front needs whole Jacobians"}
assert real_models.claims.orders  # it has entered its measurements


def cells(options: Options) -> list[Cell]:
    """Return one cell per claim; its problem is the claim's id."""
    known = QUICK if options.quick else sorted(MEASURES, key=analytic.place)
    measure, extra = "real_models.experiments.real_claims:measure", (("quick", options.quick),)
    return [Cell(measure, FACTORY, id, "", (), 0, seed=options.seed, extra=extra) for id in known]


def measure(cell: Cell) -> pd.DataFrame:
    """Return the cases of one claim."""
    learned, known = Learned(cell.factory), claims.CLAIMS[cell.problem]

    def cases(quick: bool, seed: int) -> list[claims.Case]:
        return list(MEASURES[cell.problem](learned, quick, seed))

    return replace(known, measure=cases).rows(bool(dict(cell.extra)["quick"]), cell.seed)


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Judge the claims: one row each."""
    return analytic.derive(table)
