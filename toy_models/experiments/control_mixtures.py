"""Control optimisation on mixtures, over budgets, with the optimisers that public code has.

FlowGrad and OC-Flow (arXiv 2410.18070) take SGD; D-Flow, which optimises a state, L-BFGS. Adam stands beside them. Each
is searched separately, as in ``source_mixtures``: a search of few trials that may choose between optimisers can miss
the one that suits a gradient. Measurements and aims are those of ``regimes``, whose own search for controls has eight
trials for Adam and SGD together; the recommendation for controls is made from this one.
"""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from analysis.experiment import Cell
from analysis.settings import Options
from toy_models.experiments import regime_tables, which_gradient
from toy_models.experiments.regime_outcomes import ESTIMATORS
from toy_models.experiments.regime_searches import PRICES, RATES
from toy_models.experiments.regime_tables import (
    BASELINE,
    KEYS,
    LEAST,
    OPERATORS,
    QUICK,
    cell,
    choices,
)

SUITE = "guidance"


def cells(options: Options) -> list[Cell]:
    """Return the cells of ``regimes`` in this regime at its main noise, and those of the errors of gradients."""
    errors = [one for one in which_gradient.cells(options) if one.measure == f"{which_gradient.__name__}:measure"]
    if options.quick:
        return [*(cell(options, OPERATORS[0], "controls", e, **QUICK) for e in ("greedy", "end_to_end")), *errors]
    return [*(cell(options, o, "controls", e) for o in OPERATORS for e in ESTIMATORS), *errors]


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return outcomes over budgets, what was chosen, and what ``which_gradient`` derives, of controls alone.

    In ratios to greedy a misfit below 1, which fits noise, counts as 1, and a distance below 0.05 as 0.05.

    Returns
    -------
    dict
        The tables "summary", "choices", "recommended", "correlation" and "facts".
    """
    rows = table[table["metric"] != "gradient_error"]
    summary, chosen, made = regime_tables.summarise(rows), choices(rows), which_gradient.derive(table)
    ratios = [name for name in summary if name.startswith("over_")]
    medians = rows.groupby([*KEYS, "operator", "status"], sort=False, as_index=False)["value"].median()
    floored = medians.assign(value=medians["value"].clip(lower=medians["metric"].map(LEAST)))
    summary[ratios] = regime_tables.summarise(floored)[ratios]
    tables = {"summary": summary, "choices": chosen, "recommended": made["recommended"]}
    of_rule = made["facts"].iloc[0].filter(regex="^(?!first|last|ideal_|score_|budget|operators)")
    row = {f"controls_{name.removeprefix('controls_')}": value for name, value in of_rule.items()}
    row |= facts(summary, chosen)
    return tables | {"correlation": made["correlation"], "facts": pd.DataFrame([row])}


def facts(summary: pd.DataFrame, chosen: pd.DataFrame) -> dict[str, Any]:
    """Return what was chosen, the iterations of the largest budget, and end-to-end's outcome over greedy's there.

    Names are chosen_ESTIMATOR_OPTIMISER, the share of an estimator's choices; price_AIM_PRICE, of all of an aim;
    moves_ESTIMATOR, a median over choices; and AIM with its interval.

    Returns
    -------
    dict
        A value by name.
    """
    row: dict[str, Any] = {"controls_at_end": float(chosen["at_end_of_range"].mean())}
    trials = pd.DataFrame([*chosen["chosen"].map(json.loads)], index=chosen.index).join(chosen)
    for name, part in trials.groupby("estimator", sort=False):
        row |= {f"chosen_{name}_{one}": float((part["optimiser"] == one).mean()) for one in RATES}
        row[f"moves_{name}"] = float(part.loc[part["budget"] == trials["budget"].max(), "count"].median())
    for aim, part in trials.groupby("aim", sort=False):
        row |= {f"price_{aim}_{price:g}": float((part["weight"] == price).mean()) for price in PRICES}
    own = summary[(summary["metric"] == summary["aim"]) & (summary["estimator"] == "end_to_end")]
    for aim, part in own.groupby("aim", sort=False):
        last = part.loc[part["budget"].idxmax()]
        row |= {f"{aim}_{end}": last[f"over_{BASELINE}_{end}"] for end in ("mean", "low", "high")}
    return row
