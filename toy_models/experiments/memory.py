"""Peak bytes and evaluations of the four checkpointing strategies of one solve, over steps."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from analysis.experiment import Cell
from analysis.settings import Options, Variant
from analysis.solvers.checkpointing import STRATEGIES
from analysis.tables import errors_only, only
from toy_models.cells import error_cell

SUITE = "theory"


def cells(options: Options) -> list[Cell]:
    """Return one cell, whose states outweigh the solver's coefficients (d = 64; quick, d = 32 with exact gradients)."""
    steps = [2**k for k in range(2, 5 if options.quick else 9)]
    variants = [
        Variant.of(
            "end_to_end",
            solver="midpoint",
            steps=n,
            memory=strategy,
            **({"slots": 4} if strategy == "recursive" else {}),
        )
        for n in steps
        for strategy in STRATEGIES
    ]
    problem, samples = ("radial32", 8) if options.quick else ("digits", 16)
    return [error_cell(options, problem, "condot", [0.2], samples, variants, track_memory=True)]


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the errors by strategy, and the growth of bytes over the last doubling of the steps."""
    errors = errors_only(table)
    strategies = errors["options"].map(lambda text: json.loads(text)["memory"])
    growth = errors.assign(strategy=pd.Categorical(strategies, STRATEGIES)).sort_values(["strategy", "steps"])
    growth = growth.astype({"strategy": str}).reset_index(drop=True)
    return {"growth": growth, "facts": facts(growth)}


def facts(growth: pd.DataFrame) -> pd.DataFrame:
    """Give each strategy's exponent of the bytes in the steps, and its evaluations over those of a forward solve."""
    row: dict[str, Any] = {"problem": growth["problem"].iloc[0]}
    for strategy in STRATEGIES:
        half, last = only(growth, strategy=strategy).iloc[-2:].to_dict("records")
        row[f"{strategy}_power"] = np.log2(last["bytes"] / half["bytes"])
        row[f"{strategy}_work"] = last["evaluations"] / (2 * last["steps"])
    return pd.DataFrame([row])
