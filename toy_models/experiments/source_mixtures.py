"""Source optimisation on the mixtures of digits and of MNIST, over budgets, from t = 0 and from a late start.

The cells are those of ``regimes``.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.experiment import Cell
from analysis.settings import Options
from toy_models.experiments.regime_searches import LINE_SEARCH
from toy_models.experiments.regime_tables import (
    BASELINE,
    LEAST,
    OPERATORS,
    QUICK,
    choices,
    main_cells,
    mnist_cells,
    searched_cell,
    summarise,
)

SUITE = "guidance"
STARTS = {"source": "", "source_late": "late_"}  # regimes, each with what its facts' names have after the problem


def cells(options: Options) -> list[Cell]:
    """Return the cells of ``regimes`` in these regimes at its main noise and on MNIST."""
    if options.quick:
        pairs = [("source", e) for e in ("greedy", "midpoint", "end_to_end")] + [
            ("source_late", e) for e in ("greedy", "end_to_end")
        ]
        return [searched_cell(options, OPERATORS[0], regime, e, **QUICK) for regime, e in pairs]
    return [cell for regime in STARTS for cell in main_cells(options, regime) + mnist_cells(options, regime)]


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the outcome over budgets, the trials that were chosen, and the facts in the caption."""
    summary, chosen = summarise(table), choices(table)
    row = facts(summary, summarise(table, tuple(LEAST)), chosen) | by_seed(table)
    return {"summary": summary, "choices": chosen, "facts": pd.DataFrame([row])}


def by_seed(table: pd.DataFrame) -> dict[str, float]:
    """Return by problem and aim the number of seeds, and the range over them of end-to-end's outcome over greedy's.

    With another seed there are other trials and measurements, so that the range shows how much what is chosen matters,
    which intervals over operators do not.

    Returns
    -------
    dict
        A value by name, PROBLEM_AIM_seeds and its _low and _high.
    """
    row: dict[str, float] = {}
    for (problem, aim), part in table[table["regime"] == "source"].groupby(["problem", "aim"], sort=False):
        last = part[(part["metric"] == aim) & (part["budget"] == part["budget"].max())]
        made = [summarise(one).set_index("estimator") for _, one in last.groupby("seed")]
        ratios = [one.loc["end_to_end", f"over_{BASELINE}_mean"] for one in made if "end_to_end" in one.index]
        row |= {f"{problem}_{aim}_seeds": len(ratios)}
        row |= {f"{problem}_{aim}_seeds_{end}": of(ratios) for end, of in (("low", min), ("high", max)) if ratios}
    return row


def facts(summary: pd.DataFrame, floored: pd.DataFrame, chosen: pd.DataFrame) -> dict[str, Any]:
    """Return by problem, outcomes over greedy's at the largest budget, and where end-to-end meets greedy.

    Columns are PROBLEM_AIM_ESTIMATOR, with the ends of intervals, PROBLEM_budget, PROBLEM_operators, and
    PROBLEM_AIM_from: the budget from which on end-to-end's outcome is at most greedy's. PROBLEM_floored is the ratio of
    end-to-end's misfit to greedy's where a misfit below 1, which fits noise, counts as 1. PROBLEM_late_... is the same
    from the late start.

    Returns
    -------
    dict
        A value by name.
    """
    row: dict[str, Any] = {"at_end_of_range": float(chosen["at_end_of_range"].mean())}
    trials = chosen["chosen"].map(json.loads)
    row["line_search"] = float((trials.map(lambda one: one["optimiser"]) == LINE_SEARCH).mean())
    last = floored.query("metric == 'misfit' and aim == 'misfit' and estimator == 'end_to_end'")
    for (problem, regime), rows in last.groupby(["problem", "regime"], sort=False):
        one = rows.loc[rows["budget"].idxmax()]
        row |= _ends(f"{problem}_{STARTS[str(regime)]}floored", one)
    good = summary[summary["metric"] == summary["aim"]]
    for (problem, regime, aim), rows in good.groupby(["problem", "regime", "aim"], sort=False):
        by_budget, most = rows.set_index(["budget", "estimator"]), rows["budget"].max()
        place = f"{problem}_{STARTS[str(regime)]}"
        row |= {f"{place}budget": int(most), f"{place}operators": int(rows["operators"].max())}
        for name, one in by_budget.xs(most).iterrows():
            row |= {f"{place}{aim}_{name}": one["mean"]} | _ends(f"{place}{aim}_{name}_over", one)
        row[f"{place}{aim}_from"] = _meets(by_budget[f"over_{BASELINE}_mean"].unstack())
    return row


def _ends(name: str, one: pd.Series) -> dict[str, float]:
    """Return the ratio to greedy and the ends of its interval."""
    return {f"{name}_{end}": one[f"over_{BASELINE}_{end}"] for end in ("mean", "low", "high")}


def _meets(ratios: pd.DataFrame) -> float:
    """Return the budget from which on end-to-end is at most greedy, of ratios to it by budget; NaN if none is."""
    if "end_to_end" not in ratios:
        return math.nan
    ahead = (ratios["end_to_end"] <= 1).to_numpy()
    behind = np.flatnonzero(~ahead)
    first = behind[-1] + 1 if len(behind) else 0
    return float(ratios.index[first]) if first < len(ratios) else math.nan
