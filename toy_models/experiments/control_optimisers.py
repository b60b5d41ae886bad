"""Control optimisation on mixtures by each optimiser, L-BFGS with a line search among them, over a hundred iterations.

The largest budget of ``regimes`` pays the exact adjoint for fewer than a hundred iterations. Here each optimiser has
the same number of trials of its own, as there, and the largest budget pays for 150.
Public code of FlowGrad and OC-Flow takes SGD; of D-Flow, which optimises a state, L-BFGS. The problem is that of
``regimes``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.experiment import Cell
from analysis.guidance.regimes import REGIMES, gradient_in
from analysis.measurements import MeasuredBatch
from analysis.search import Search
from analysis.settings import Options
from toy_models.experiments import regime_tables
from toy_models.experiments.regime_outcomes import AIMS, ESTIMATORS, at_budget, batches, metrics
from toy_models.experiments.regime_tables import BASELINE, LEAST

SUITE = "guidance"
LINE_SEARCH = "lbfgs_line_search"
OPTIMISERS = ("sgd", "adam", LINE_SEARCH)
NAMES = (BASELINE, "end_to_end")
BUDGETS = (384, 1536, 4864)
CONTROLS = replace(REGIMES["controls"], unscaled=("optimiser", (LINE_SEARCH,)))  # it finds how long a move is
QUICK: dict[str, Any] = {"members": 2, "exact": 16, "held_out": 4, "trials": 1, "budgets": (96,), "samples": 2}
KEYS = ["optimiser", "budget", "aim"]


def cells(options: Options) -> list[Cell]:
    """Return a cell per operator, gradient and optimiser."""
    operators = regime_tables.OPERATORS[:1] if options.quick else regime_tables.OPERATORS
    sizes: dict[str, Any] = QUICK if options.quick else {"trials": 8, "budgets": BUDGETS}
    made = []
    for operator, name, optimiser in ((o, n, p) for o in operators for n in NAMES for p in OPTIMISERS):
        cell = regime_tables.cell(options, operator, "controls", name, **sizes)
        kept = {k: v for k, v in cell.extra if k not in ("nearer", "kept")} | {"optimiser": optimiser}
        made.append(replace(cell, measure=f"{__name__}:measure", extra=tuple(kept.items())))
    return made


def measure(cell: Cell) -> pd.DataFrame:
    """Return a row per budget, aim, metric and measurement."""
    flow, tuning, reported = batches(cell)
    extra, name = cell.extra_dict, cell.variants[0].estimator
    place = cell.columns() | {"truth": "exact", "estimator": name, "samples": reported.members}
    place |= {key: extra[key] for key in ("regime", "operator", "noise", "optimiser")}
    held = replace(CONTROLS, space={**CONTROLS.space, "optimiser": (extra["optimiser"],)})
    search = Search(flow, held, gradient_in("controls", name, ESTIMATORS), tuning, metrics, AIMS, cell.seed)
    return pd.DataFrame([place | row for row in _rows(search, reported, extra)])


def _rows(search: Search[MeasuredBatch], reported: MeasuredBatch, extra: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for budget in extra["budgets"]:
        yield from at_budget(search, search.wide(extra["trials"], budget), budget, reported)


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return outcomes over those of greedy by Adam, and the facts in the caption.

    Outcomes are medians over measurements, a misfit below 1 as 1 and a distance below 0.05 as 0.05; their means over
    operators are geometric.

    Returns
    -------
    dict
        The tables "summary" and "facts".
    """
    good = table[table["metric"] == table["aim"]]
    medians = good.groupby([*KEYS, "estimator", "operator"], sort=False)["value"].median().reset_index()
    medians["value"] = medians["value"].clip(lower=medians["aim"].map(LEAST))
    wide = medians.pivot_table(index=[*KEYS, "estimator"], columns="operator", values="value", sort=False)
    rows = []
    for key, part in wide.iterrows():
        place = dict(zip([*KEYS, "estimator"], key, strict=True)) | {"operators": int(part.notna().sum())}
        peer = wide.loc[("adam", place["budget"], place["aim"], BASELINE)]
        rows.append(place | regime_tables.geometric(part / peer))
    return {"summary": pd.DataFrame(rows), "facts": facts(wide, good)}


def facts(wide: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return one row: end-to-end over greedy and L-BFGS over Adam, and end-to-end's iterations at the largest budget.

    Columns are AIM_OPTIMISER for end-to-end over greedy, and AIM_ESTIMATOR_line_search for L-BFGS over Adam, at the
    largest budget; AIM_best_BUDGET is end-to-end over greedy where each has the optimiser that is best for it on an
    operator. Each has the ends of its interval over operators.

    Returns
    -------
    DataFrame
        One row.
    """
    budgets = sorted(set(table["budget"]))
    row: dict[str, Any] = {"budget": int(budgets[-1]), "first_budget": int(budgets[0])}
    most = table[(table["budget"] == budgets[-1]) & (table["estimator"] == NAMES[1])]
    row |= {"iterations": float(most["count"].median()), "operators": table["operator"].nunique()}
    for aim in AIMS:
        value = {(o, b, n): wide.loc[(o, b, aim, n)] for o in OPTIMISERS for b in budgets for n in NAMES}
        last = {(o, n): value[o, budgets[-1], n] for o in OPTIMISERS for n in NAMES}
        ratios = {f"{aim}_{o}": last[o, NAMES[1]] / last[o, NAMES[0]] for o in OPTIMISERS}
        ratios |= {f"{aim}_{n}_line_search": last[LINE_SEARCH, n] / last["adam", n] for n in NAMES}
        for budget in budgets:
            best = [pd.concat([value[o, budget, n] for o in OPTIMISERS], axis=1).min(axis=1) for n in NAMES]
            ratios[f"{aim}_best_{budget}"] = best[1] / best[0]
        for place, ratio in ratios.items():
            row |= {f"{place}_{end}": found for end, found in regime_tables.geometric(ratio).items()}
    return pd.DataFrame([row])
