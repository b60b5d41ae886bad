"""Which gradient pays in which regime, over budgets: estimators in all regimes, tuned alike, on fitted mixtures.

A cell is one estimator in one regime on one operator. At each budget (evaluations and products per sample) every
estimator gets the same number of trials, on measurements that are not reported: all over the ranges of the regime
until a run has a few moves, then the best of smaller budgets, with moves as long as before and with a run that goes as
far; and some near the best. A budget is a limit, so that the best of all that was tried within it counts. Adaptive
lookahead, whose cost depends on the state, has as many moves as its trials show that the budget pays for. There are two
aims, the objective's own (the misfit) and the distance to the exact posterior; the best trial by each is run on other
measurements.

Source optimisation is searched as ``source_mixtures`` says, by two optimisers with more trials.

The main part is the 8x8 digits at noise 0.1 under five operators. Beside it stand other noise levels; source
optimisation that takes the estimator's own endpoint for its sample ("source_own"), where every estimator meets its
target, but not on the data; and mixtures of MNIST.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from analysis import intervals
from analysis.experiment import Cell
from analysis.guidance.regimes import REGIMES
from analysis.settings import Options, Variant
from toy_models.experiments.regime_outcomes import ESTIMATORS

SUITE = "guidance"
OPERATORS = ("box_inpainting", "random_inpainting", "super_resolution_2", "gaussian_deblurring", "compressed_sensing")
BUDGETS = tuple(48 * 2**k for k in range(7))
SPARSE = BUDGETS[1::2]  # of adaptive lookahead, whose steps are chosen by Python, state by state
NOISE, OTHER_NOISES = 0.1, (0.03, 0.3)
MAIN: dict[str, Any] = {"problem": "digits", "noise": NOISE}
SOME = ("greedy", "midpoint", "midpoint_4", "end_to_end")
SIZES = {"members": 4, "exact": 64, "held_out": 16, "trials": 8, "nearer": 2, "kept": 1}
QUICK: dict[str, Any] = {"samples": 4, "members": 2, "exact": 16, "held_out": 4, "trials": 2, "nearer": 1, "kept": 1}
QUICK |= {"budgets": BUDGETS[1:3]}
OF_SOURCE: dict[str, Any] = {"trials": 24, "nearer": 1, "kept": 8}  # for each of two optimisers
ON_MNIST = ("greedy", "two_step_euler", "midpoint", "midpoint_4", "end_to_end")
MNIST: dict[str, Any] = {"problem": "mnist", "samples": 10, "members": 2, "held_out": 4, "budgets": BUDGETS[1:6:2]}
BASELINE = "greedy"
KEYS = ["problem", "noise", "regime", "estimator", "aim", "budget", "metric"]


def cells(options: Options) -> list[Cell]:
    """Return a cell per operator, regime and estimator, at the main noise and then at others and on MNIST."""
    if options.quick:
        return _quick_cells(options)
    made = [
        in_regime(options, o, r, e, budgets=SPARSE if e == "adaptive" else BUDGETS)
        for o in OPERATORS
        for r in REGIMES
        for e in ESTIMATORS
    ]
    made += [cell(options, o, "source_own", e, budgets=BUDGETS[2:6:2]) for o in OPERATORS for e in SOME]
    made += [
        in_regime(options, o, r, e, noise=noise, budgets=BUDGETS[:5:2], **sizes)
        for noise in OTHER_NOISES
        for o in OPERATORS[:3]
        for r, sizes in (("guidance", {}), ("source", {"trials": 12, "kept": 4}))
        for e in ESTIMATORS
    ]
    return made + [
        in_regime(options, o, r, e, **MNIST, **sizes)
        for r, operators, sizes in (("guidance", OPERATORS[:3], {}), ("source", OPERATORS, {"trials": 12, "kept": 2}))
        for o in operators
        for e in ON_MNIST
    ]


def _quick_cells(options: Options) -> list[Cell]:
    places = [("guidance", NOISE), ("source", NOISE), ("source_own", NOISE)]
    places += [("guidance", OTHER_NOISES[-1]), ("source", OTHER_NOISES[-1])]
    return [
        in_regime(options, OPERATORS[0], regime, name, noise=noise, **QUICK)
        for regime, noise in places
        for name in ("greedy", "midpoint", "end_to_end")[: 3 if (regime, noise) == ("source", NOISE) else 2]
    ]


def in_regime(options: Options, operator: str, regime: str, estimator: str, **sizes: Any) -> Cell:
    """Return a cell as ``cell`` does, whose search in source optimisation is that of ``source_mixtures``."""
    if regime != "source":
        return cell(options, operator, regime, estimator, **sizes)
    made = cell(options, operator, regime, estimator, **OF_SOURCE | sizes)
    return replace(made, measure="toy_models.experiments.source_mixtures:measure")


def cell(
    options: Options,
    operator: str,
    regime: str,
    estimator: str,
    *,
    problem: str = "digits",
    noise: float = NOISE,
    samples: int = 20,
    budgets: tuple[int, ...] = BUDGETS,
    **sizes: int,
) -> Cell:
    """Return a cell; ``sizes`` replace some of ``SIZES``."""
    place = {"regime": regime, "operator": operator, "noise": noise, "budgets": budgets}
    return Cell(
        measure=f"toy_models.experiments.regime_outcomes:{'measure_fitted' if estimator == 'adaptive' else 'measure'}",
        factory="toy_models.problems.mnist:flow" if problem == "mnist" else "toy_models.problems.zoo:build",
        problem=problem,
        path="condot",
        samples=samples,
        variants=(Variant.of(estimator),),
        seed=options.seed,
        extra=tuple((place | SIZES | sizes).items()),
    )


def main_part(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the main part: the 8x8 digits at the main noise, in the four regimes."""
    rows = (table["problem"] == MAIN["problem"]) & (table["noise"] == MAIN["noise"])
    return table[rows & table["regime"].isin([*REGIMES])]


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the outcome over budgets, and the facts in the caption."""
    summary, chosen = summarise(table), choices(table)
    made = {"summary": summary, "choices": chosen, "facts": facts(summary, chosen)}
    return made | {"elsewhere_facts": elsewhere_facts(summary)}


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Compute medians over measurements, their mean over operators with Student's interval, and failures.

    ``failed`` is the share of measurements with a diverged sample; the medians leave these out. ``over_greedy...`` is
    the geometric mean over operators of the median over greedy's, with its interval, where all are positive.

    Returns
    -------
    DataFrame
        One row per regime, estimator, budget, aim and metric.
    """
    groups = table[table["status"] == "ok"].groupby([*KEYS, "operator"], sort=False)["value"]
    lost = groups.agg(lambda values: values.isna().mean()).groupby(level=KEYS, sort=False).mean()
    medians, there = (part.unstack("operator", sort=False) for part in (groups.median(), groups.size()))
    rows = []
    for key, every in medians.iterrows():
        some = every[there.loc[key].notna()]  # the operators of this place: not all places have the same
        place = dict(zip(KEYS, key, strict=True))
        mean = intervals.interval_of_few(some.dropna().to_numpy())
        row = place | {"mean": mean.mean, "low": mean.low, "high": mean.high, "operators": int(some.count())}
        greedy = tuple((place | {"estimator": BASELINE}).values())
        ratio = geometric(some / (medians.loc[greedy, some.index] if greedy in medians.index else np.nan))
        rows.append(row | {f"over_{BASELINE}_{end}": value for end, value in ratio.items()} | {"failed": lost[key]})
    return pd.DataFrame(rows)


def geometric(ratios: pd.Series) -> dict[str, float]:
    """Return the geometric mean of a few positive ratios and Student's interval of it; NaN where one is not finite."""
    if not (np.isfinite(ratios) & (ratios > 0)).all():
        return dict.fromkeys(("mean", "low", "high"), np.nan)
    found = intervals.interval_of_few(np.log(ratios.to_numpy()))
    return {"mean": np.exp(found.mean), "low": np.exp(found.low), "high": np.exp(found.high)}


def choices(table: pd.DataFrame) -> pd.DataFrame:
    """Return the chosen trials, one row per operator, regime, estimator, budget and aim."""
    columns = [
        "problem",
        "noise",
        "operator",
        "regime",
        "estimator",
        "budget",
        "aim",
        "chosen",
        "count",
        "at_end_of_range",
    ]
    return table.loc[table["status"] == "ok", columns].drop_duplicates(ignore_index=True)


def facts(summary: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """Return one row: the outcomes at the largest budget by regime and aim, and how often a choice is at an end."""
    row: dict[str, Any] = {"at_end_of_range": float(chosen["at_end_of_range"].mean())}
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


def elsewhere_facts(summary: pd.DataFrame) -> pd.DataFrame:
    """Collect end-to-end's outcome over greedy's at the largest budget, away from the main part, in one row.

    Columns are PLACE_REGIME_METRIC, with the ends of intervals; where the samples are the estimators' own endpoints
    ("source_own"), the range over estimators of their misfits and energy distances.

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
        if regime not in REGIMES:
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
