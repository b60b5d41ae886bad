"""Which gradient pays in which regime, over budgets: estimators in all regimes, tuned alike, on fitted mixtures.

A cell is one estimator in one regime on one operator. At each budget (evaluations and products per sample) every
estimator gets the same number of trials, on measurements that are not reported, of each optimiser or rule of the regime
(``regime_searches``): all over the ranges until a run has a few moves, then the best of smaller budgets, with moves as
long as before and with a run that goes as far; and some near the best. A budget is a limit, so that the best of all
that was tried within it counts. Adaptive lookahead, whose cost depends on the state, has as many moves as its trials
show that the budget pays for. There are two aims, the objective's own (the misfit) and the distance to the exact
posterior; the best trial by each is run on other measurements.

The main part is the 8x8 digits at noise 0.1 under five operators; the source is optimised from t = 0, and from a late
start ("source_late"). Beside it stand other noise levels; the late start with the estimator's own endpoint for its
sample ("source_own"), where every estimator meets its target; and mixtures of MNIST.

Optimisers are those of public code: D-Flow's source has L-BFGS with a line search, since with a fixed rate its first
steps may leave every bound; FlowGrad and OC-Flow (arXiv 2410.18070) take SGD for controls. Adam stands beside them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.experiment import Cell
from analysis.guidance.regimes import Regime
from analysis.guidance.tuning import Range
from analysis.settings import Options
from toy_models.experiments.regime_outcomes import ESTIMATORS
from toy_models.experiments.regime_searches import SEARCHED
from toy_models.experiments.regime_tables import (
    BASELINE,
    BUDGETS,
    FEWER,
    LEAST,
    MAIN,
    NOISE,
    OPERATORS,
    QUICK,
    USES,
    choices,
    main_cells,
    main_part,
    mnist_cells,
    searched_cell,
    summarise,
)

SUITE = "guidance"
OWN = "source_own"
OTHER_NOISES = (0.03, 0.3)
ALWAYS = ("greedy", "end_to_end")
SOME = ("greedy", "midpoint", "midpoint_4", "end_to_end")


def cells(options: Options) -> list[Cell]:
    """Return a cell per operator, regime and estimator, at the main noise and then at others and on MNIST."""
    if options.quick:
        return _quick_cells(options)
    made = [one for regime in USES for one in main_cells(options, regime)]
    made += [searched_cell(options, o, OWN, e, budgets=BUDGETS[2:6:2]) for o in OPERATORS for e in SOME]
    made += [
        searched_cell(options, o, r, e, noise=noise, budgets=BUDGETS[:5:2], **FEWER[r])
        for noise in OTHER_NOISES
        for o in OPERATORS[:3]
        for r in ("guidance", "source")
        for e in ESTIMATORS
    ]
    return made + [one for regime in USES for one in mnist_cells(options, regime)]


def _quick_cells(options: Options) -> list[Cell]:
    places = [("guidance", NOISE), ("source", NOISE), (OWN, NOISE)]
    places += [("guidance", OTHER_NOISES[-1]), ("source", OTHER_NOISES[-1])]
    return [
        searched_cell(options, OPERATORS[0], regime, name, noise=noise, **QUICK)
        for regime, noise in places
        for name in ("greedy", "midpoint", "end_to_end")[: 3 if (regime, noise) == ("source", NOISE) else 2]
    ]


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the outcome over budgets, what was chosen, and the facts in the captions."""
    summary, chosen = summarise(table), choices(table)
    made = {"summary": summary, "choices": chosen, "facts": facts(summary, chosen)}
    return made | {"elsewhere_facts": elsewhere_facts(summarise(table, tuple(LEAST)))}


def facts(summary: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """Return one row: the outcomes at the largest budget by regime and aim, and what was chosen, of the main part.

    REGIME_at_end is the share of choices at an end of a range, and ``at_end_of_range`` that of all choices, elsewhere
    too; REGIME_OPTION_largest that of choices with the largest value of an option that is taken from a list, and
    ``at_end_of_list`` that of all choices, elsewhere too, with the largest value of any;
    REGIME_ESTIMATOR_VALUE that of an optimiser or rule; REGIME_ESTIMATOR_moves how many steps or iterations the largest
    budget pays for, the median over choices.

    Returns
    -------
    DataFrame
        One row.
    """
    row: dict[str, Any] = {"at_end_of_range": float(chosen["at_end_of_range"].mean())}
    largest = [_largest(part, SEARCHED[str(regime)]).any(axis=1) for regime, part in chosen.groupby("regime")]
    row["at_end_of_list"] = float(pd.concat(largest).mean())
    for regime, part in main_part(chosen).groupby("regime", sort=False):
        row |= {f"{regime}_{name}": value for name, value in _chosen(part, SEARCHED[str(regime)]).items()}
    summary = main_part(summary)
    row |= MAIN | {"budget": int(summary["budget"].max()), "operators": int(summary["operators"].max())}
    last = summary[(summary["budget"] == row["budget"]) & (summary["metric"] == summary["aim"])]
    for (regime, metric), rows in last.groupby(["regime", "metric"]):
        by_name = rows.set_index("estimator")
        values = by_name["mean"]
        row[f"{regime}_{metric}_best"] = str(values.idxmin()) if np.isfinite(values).any() else None
        row |= {f"{regime}_{metric}_{name}": float(value) for name, value in values.items()}
        row[f"{regime}_{metric}_order"] = _order(by_name)
    return pd.DataFrame([row])


def _chosen(chosen: pd.DataFrame, searched: Mapping[str, Regime]) -> dict[str, float]:
    """Return what was chosen in a regime: shares of choices, and moves at the largest budget."""
    trials = pd.DataFrame([*chosen["chosen"].map(json.loads)], index=chosen.index)
    row = {"at_end": float(chosen["at_end_of_range"].mean())}
    row |= {f"{name}_largest": float(share) for name, share in _largest(chosen, searched).mean().items()}
    for name, part in chosen.groupby("estimator", sort=False):
        used = trials.loc[part.index]
        row |= {f"{name}_{value}": float(used.eq(value).any(axis=1).mean()) for value in searched}
        row[f"{name}_moves"] = part.loc[part["budget"] == chosen["budget"].max(), "count"].median()
    return row


def _largest(chosen: pd.DataFrame, searched: Mapping[str, Regime]) -> pd.DataFrame:
    """Return whether a choice is the largest of its list, a column per option taken from a list of numbers."""
    trials = pd.DataFrame([*chosen["chosen"].map(json.loads)], index=chosen.index)
    space = next(iter(searched.values())).space
    lists = {name: max(v) for name, v in space.items() if not isinstance(v, Range) and not isinstance(v[0], str)}
    return pd.DataFrame({name: trials[name] == v for name, v in lists.items() if name in trials}, index=chosen.index)


def elsewhere_facts(summary: pd.DataFrame) -> pd.DataFrame:
    """Collect end-to-end's outcome over greedy's at the largest budget, away from the main part, in one row.

    A misfit below 1, which fits noise, counts as 1 in these ratios. Columns are PLACE_REGIME_METRIC, with the ends of
    intervals, the late start among the regimes; where the samples are the estimators' own endpoints ("source_own"), the
    range over estimators of their misfits and energy distances.

    Returns
    -------
    DataFrame
        One row.
    """
    summary = summary[summary["metric"] == summary["aim"]]
    others = summary.drop(main_part(summary).index)
    row: dict[str, Any] = {}
    for (problem, noise, regime, metric), rows in others.groupby(["problem", "noise", "regime", "metric"], sort=False):
        last = rows[rows["budget"] == rows["budget"].max()].set_index("estimator")
        if regime == OWN:
            row |= {f"{regime}_{metric}_low": last["mean"].min(), f"{regime}_{metric}_high": last["mean"].max()}
        elif "end_to_end" in last.index:
            place = f"noise_{noise:g}".replace(".", "_") if problem == MAIN["problem"] else problem
            ratio = last.loc["end_to_end"]
            for end, suffix in (("mean", ""), ("low", "_low"), ("high", "_high")):
                row[f"{place}_{regime}_{metric}{suffix}"] = float(ratio[f"over_{BASELINE}_{end}"])
    return pd.DataFrame([row | {"places": int(others[["problem", "noise"]].drop_duplicates().shape[0])}])


def _order(by_name: pd.DataFrame) -> str | None:
    """Return "end" (end-to-end) or "greedy", the one with the lower outcome if their ratio's interval excludes 1."""
    if "end_to_end" not in by_name.index:
        return None
    end = by_name.loc["end_to_end"]
    if end[f"over_{BASELINE}_high"] < 1:
        return "end"
    return BASELINE if end[f"over_{BASELINE}_low"] > 1 else None
