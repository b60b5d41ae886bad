"""What the experiments on regimes share: operators, budgets and cells, and summaries of their outcomes."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from analysis import intervals
from analysis.experiment import Cell
from analysis.guidance.regimes import REGIMES
from analysis.settings import Options, Variant
from toy_models.experiments.regime_outcomes import ESTIMATORS

OPERATORS = ("box_inpainting", "random_inpainting", "super_resolution_2", "gaussian_deblurring", "compressed_sensing")
BUDGETS = tuple(48 * 2**k for k in range(7))
SPARSE = BUDGETS[1::2]  # of adaptive lookahead, whose steps are chosen by Python, state by state
NOISE = 0.1
MAIN: dict[str, Any] = {"problem": "digits", "noise": NOISE}
SIZES = {"members": 4, "exact": 64, "held_out": 16, "trials": 8, "nearer": 2, "kept": 1}
# Of each optimiser or rule: all over the ranges, near the best, and again at a larger budget.
TRIALS: dict[str, dict[str, Any]] = {
    "guidance": {"trials": 6, "nearer": 1, "kept": 2},  # a rule has one number to find
    "steps": {"trials": 12, "nearer": 1, "kept": 4},
    "source": {"trials": 16, "nearer": 1, "kept": 6},
    "source_late": {"trials": 16, "nearer": 1, "kept": 6},
    "source_own": {"trials": 8, "nearer": 1, "kept": 3},
    "controls": {"trials": 12, "nearer": 1, "kept": 4},
}
SEEDS = {"source": 2}  # where other trials and measurements, or another processor, change what comes out
FEWER: dict[str, dict[str, Any]] = {  # beside the main part
    "guidance": {"trials": 6, "kept": 1},
    "steps": {"trials": 8, "kept": 2},
    "source": {"trials": 8, "kept": 2},
    "source_late": {"trials": 8, "kept": 2},
    "controls": {"trials": 8, "kept": 2},
}
QUICK: dict[str, Any] = {"samples": 4, "members": 2, "exact": 16, "held_out": 4, "trials": 1, "nearer": 1, "kept": 1}
QUICK |= {"budgets": BUDGETS[1:3]}
MNIST: dict[str, Any] = {"problem": "mnist", "samples": 10, "members": 2, "held_out": 4}
MNIST |= {"dtype": "float32"}  # in 64 steps its samples differ from those in float64 by 1e-5
SLOW = "adaptive"  # there: states with meshes of their own share no times, whose matrices the flow would remember
BASELINE = "greedy"
LATE = "source_late"
USES = (*REGIMES, LATE)  # the ways to use a gradient that a user chooses between
KEYS = ["problem", "noise", "regime", "estimator", "aim", "budget", "metric"]
LEAST = {"misfit": 1.0, "energy_distance": 0.05}  # below these one is as good as another


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
    """Return a cell of the problem; ``sizes`` replace some of ``SIZES``. Every experiment names its own measure."""
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


def searched_cell(
    options: Options,
    operator: str,
    regime: str,
    estimator: str,
    *,
    budgets: tuple[int, ...] = (),
    dtype: str = "float64",
    **sizes: Any,
) -> Cell:
    """Return a cell over budgets, whose optimisers are searched separately; ``sizes`` replace some of ``TRIALS``."""
    budgets = budgets or (SPARSE if estimator == "adaptive" else BUDGETS)
    made = cell(options, operator, regime, estimator, budgets=budgets, **TRIALS[regime] | sizes)
    # By name, as a cell has it: the module imports from an experiment that has such cells.
    return replace(made, measure=f"{__package__}.regime_searches:measure", dtype=dtype)


def main_cells(options: Options, regime: str) -> list[Cell]:
    """Return the cells of a regime in the main part, with ``SEEDS`` of it."""
    seeds = [replace(options, seed=options.seed + i) for i in range(SEEDS.get(regime, 1))]
    return [searched_cell(one, o, regime, e) for one in seeds for o in OPERATORS for e in ESTIMATORS]


def mnist_cells(options: Options, regime: str) -> list[Cell]:
    """Return the cells of a regime on mixtures of MNIST; the source has all operators and estimators."""
    sizes = MNIST | FEWER[regime]
    pairs = itertools.product(OPERATORS if regime == "source" else OPERATORS[:3], ESTIMATORS)
    asked = [(o, e) for o, e in pairs if regime == "source" or e != SLOW]
    slow = sizes | {"budgets": SPARSE[:2]}
    return [searched_cell(options, o, regime, e, **(slow if e == SLOW else sizes)) for o, e in asked]


def main_part(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the main part: the 8x8 digits at the main noise, in ``USES``."""
    rows = (table["problem"] == MAIN["problem"]) & (table["noise"] == MAIN["noise"])
    return table[rows & table["regime"].isin(USES)]


def summarise(table: pd.DataFrame, floored: tuple[str, ...] = ("energy_distance",)) -> pd.DataFrame:
    """Compute medians over measurements, their mean over operators with Student's interval, and failures.

    ``failed`` is the share of measurements with a diverged sample; the medians leave these out. ``over_greedy...`` is
    the geometric mean over operators of the median over greedy's, with its interval, where all are positive. There the
    medians of the metrics ``floored`` count as no less than ``LEAST``: estimates of small distances may be negative.

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
        least = LEAST[place["metric"]] if place["metric"] in floored else -np.inf
        greedy = tuple((place | {"estimator": BASELINE}).values())
        theirs = medians.loc[greedy, some.index].clip(lower=least) if greedy in medians.index else np.nan
        ratio = geometric(some.clip(lower=least) / theirs)
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
        "seed",
        "budget",
        "aim",
        "chosen",
        "count",
        "at_end_of_range",
    ]
    return table.loc[table["status"] == "ok", columns].drop_duplicates(ignore_index=True)
