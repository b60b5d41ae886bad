"""Where the lists of two options may end: outcomes at values in a list and beyond it.

Most options of ``regimes`` are chosen from a range, and ``near_end`` says where a choice lies at its end. The weights
of the source's prior and of controls have lists that reach farther than what is chosen. Two options are left: the moves
per step, and the time from which the source is optimised, which is no option there because of what is measured here.
Each is held at one value after another, farther than its list goes, while trials choose all other options. Outcomes are
those on the measurements for tuning, since they are what chooses. The problem is that of ``regimes``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pandas as pd

from analysis.experiment import Cell
from analysis.guidance.regimes import REGIMES, Regime, gradient_in
from analysis.search import Search
from analysis.settings import Options
from toy_models.experiments import regime_tables
from toy_models.experiments.regime_outcomes import AIMS, ESTIMATORS, batches, metrics
from toy_models.experiments.regime_tables import LEAST

SUITE = "guidance"
VALUES: dict[tuple[str, str], tuple[float, ...]] = {
    ("source", "t"): (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9),
    ("steps", "inner"): (1, 2, 4, 8, 16, 32),
}
STARTS = (0.0, 0.2, 0.4, 0.6)
NAMES = ("greedy", "midpoint", "end_to_end")
BUDGET = 768
QUICK: dict[str, Any] = {"members": 2, "exact": 16, "held_out": 4, "trials": 1, "budget": 96, "values": (0.6, 0.8)}
KEYS = ["regime", "option", "operator", "estimator", "aim"]


def cells(options: Options) -> list[Cell]:
    """Return a cell per operator, option and estimator."""
    if options.quick:
        return [cell(options, regime_tables.OPERATORS[0], "source", "t", "greedy", **QUICK)]
    sizes: dict[str, Any] = {"trials": 10, "budget": BUDGET}
    return [
        cell(options, o, *which, name, **sizes)
        for o in regime_tables.OPERATORS[:3]
        for which in VALUES
        for name in NAMES
    ]


def cell(options: Options, operator: str, regime: str, option: str, estimator: str, **sizes: Any) -> Cell:
    """Return the cell of an option held at its values."""
    made = regime_tables.cell(options, operator, regime, estimator)
    own = made.extra_dict | {"option": option, "values": VALUES[regime, option]} | sizes
    kept = [(k, v) for k, v in own.items() if k not in ("budgets", "nearer", "kept")]
    return replace(made, samples=1, measure=f"{__name__}:measure", extra=tuple(kept))


@functools.cache
def regime_of(name: str) -> Regime:
    """Return a regime; the source has one optimiser here, Adam, and ``STARTS``."""
    known = REGIMES[name]
    own: dict[str, Any] = {"optimiser": ("adam",), "t": STARTS} if name == "source" else {}
    return replace(known, space={**known.space, **own})


def last(regime: str, option: str) -> float:
    """Return the largest value in the list from which the regime takes an option."""
    return float(max(cast("tuple[float, ...]", regime_of(regime).space[option])))


def measure(cell: Cell) -> pd.DataFrame:
    """Return a row per value and aim: the best outcome of the trials with that value."""
    flow, tuning, _ = batches(cell)
    extra, name = cell.extra_dict, cell.variants[0].estimator
    regime, option = regime_of(extra["regime"]), extra["option"]
    place = cell.columns() | {"truth": "exact", "estimator": name, "option": option, "budget": extra["budget"]}
    place |= {key: extra[key] for key in ("regime", "operator", "noise")}
    choice = gradient_in(extra["regime"], name, ESTIMATORS)

    def rows() -> Iterator[dict[str, Any]]:
        for value in extra["values"]:
            held = replace(regime, space={**regime.space, option: (value,)})
            search = Search(flow, held, choice, tuning, metrics, AIMS, cell.seed)
            known = search.wide(extra["trials"], extra["budget"])
            for aim in AIMS:
                score = search.best(known, aim, 1)[0].score(aim) if known else np.nan
                yield place | {"chosen": value, "aim": aim, "value": score}

    return pd.DataFrame(rows())


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return outcomes over that at the list's end, and the facts in the caption.

    A misfit below 1 fits noise and counts as 1, and a distance below 0.05 as 0.05. ``beyond`` says whether a value is
    not in the list.

    Returns
    -------
    dict
        The tables "summary" and "facts".
    """
    ends = table.apply(lambda row: last(row["regime"], row["option"]), axis=1)
    table = table.assign(beyond=table["chosen"] > ends, outcome=table["value"].clip(lower=table["aim"].map(LEAST)))
    ending = table.loc[table["chosen"] == ends, [*KEYS, "outcome"]]
    ratios = table.merge(ending, on=KEYS, suffixes=("", "_at_end"))
    ratios["ratio"] = ratios["outcome"] / ratios["outcome_at_end"]
    names = [*(key for key in KEYS if key != "operator"), "chosen", "beyond"]
    groups = ratios.groupby(names, sort=False)["ratio"]
    rows = [dict(zip(names, key, strict=True)) | regime_tables.geometric(part) for key, part in groups]
    return {"summary": pd.DataFrame(rows), "facts": facts(table)}


def facts(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row: by option and aim, in how many cases a value beyond the list gives the least outcome, and how.

    REGIME_OPTION_AIM_beyond is the share of cases (operators and gradients) in which the best value beyond the list has
    a lower outcome than all in it; _gain is the median over cases of the best outcome beyond over the best within.

    Returns
    -------
    DataFrame
        One row.
    """
    row: dict[str, Any] = {"operators": table["operator"].nunique(), "budget": int(table["budget"].iloc[0])}
    row["cases"] = int(table[["operator", "estimator"]].drop_duplicates().shape[0])
    for (regime, option, aim), part in table.groupby(["regime", "option", "aim"], sort=False):
        best = part.groupby(["operator", "estimator", "beyond"])["outcome"].min().unstack("beyond")
        ratio = best[True] / best[False]
        place = f"{regime}_{option}_{aim}"
        row |= {f"{place}_beyond": float((ratio < 1).mean()), f"{place}_gain": float(ratio.median())}
    return pd.DataFrame([row])
