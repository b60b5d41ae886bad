"""Which gradient to use in each regime at each budget, whether that holds for what is new, and which error explains it.

The outcomes are those of ``regimes``, whose cells this experiment shares: medians over measurements of the misfit,
where 1 is as good as less (a lower one fits noise), and of the energy distance to the exact posterior, where sampling
error hides what is below 0.05; each is tuned for.
An estimator that cannot pay for one step, or of which more than a tenth of the measurements diverge, has no outcome.

**The rule** recommends, for a regime, an aim and a budget, the estimator with the least geometric mean over operators;
of equal ones, the first of ``CHEAPEST_FIRST``. It is tested on what had no part in it: made from all operators but one
and every second image, it is applied to the other images under that operator, beside always greedy and always
end-to-end. The rule of the main part is also applied at other noise levels and on MNIST ("transfer").

**The errors** of the estimators' gradients, at states of the exact posterior sampler as ``dial`` has them, are measured
against the ideal gradient and against the exact likelihood score. Spearman's correlation over estimators of an error
with the outcome at the largest budget says which of the two predicts it.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd

from analysis import intervals
from analysis.experiment import Cell
from analysis.settings import Options
from toy_models.experiments import dial, outcome, regimes
from toy_models.experiments.regime_outcomes import ESTIMATORS, batches
from toy_models.experiments.regime_tables import LEAST, MAIN, geometric, main_part
from toy_models.mixtures.gaussian import MixtureFlow

SUITE = "guidance"
TIMES = (1 / 6, 1 / 2, 5 / 6)
PLACE = ["regime", "aim", "budget"]
MANY = 0.1  # a share of diverged measurements from which an estimator has no outcome
NEAR = 1.1  # an outcome within this factor of the best one is as good
ENOUGH = 4  # estimators: a correlation of fewer says nothing
ALWAYS = ("greedy", "end_to_end")
CHEAPEST_FIRST = ("greedy", "two_step_euler", "midpoint", "midpoint_4", "adaptive", "end_to_end")


def cells(options: Options) -> list[Cell]:
    """Return the cells of ``regimes``, and one per operator for the errors of gradients."""
    known = [cell for cell in regimes.cells(options) if MAIN.items() <= _place(cell).items()]
    names = tuple(dict.fromkeys(cell.variants[0].estimator for cell in known))
    firsts = {cell.extra_dict["operator"]: cell for cell in known}
    return [*regimes.cells(options), *(_errors_cell(cell, names, options) for cell in firsts.values())]


def _place(cell: Cell) -> dict[str, Any]:
    return {"problem": cell.problem, "noise": cell.extra_dict["noise"]}


def _errors_cell(cell: Cell, names: tuple[str, ...], options: Options) -> Cell:
    kept = tuple((key, value) for key, value in cell.extra if key in ("operator", "noise", *outcome.SIZES))
    own = (("estimators", names), ("tolerance", 1e-10 if options.quick else dial.TOLERANCE))
    place: dict[str, Any] = {"factory": cell.factory, "problem": cell.problem, "path": cell.path, "seed": cell.seed}
    return Cell(measure=f"{__name__}:measure", samples=cell.samples, times=TIMES, extra=(*kept, *own), **place)


def measure(cell: Cell) -> pd.DataFrame:
    """Return a row per estimator, time, measurement and truth: the error of its gradient at its best scale."""
    extra = cell.extra_dict
    flow, _, reported = batches(cell)
    assert isinstance(flow, MixtureFlow)
    variants = {name: ESTIMATORS[name] for name in extra["estimators"]}
    gradients = dial.gradients_at(flow, reported, variants, cell.times, extra["tolerance"])
    rows = cell.columns() | {name: extra[name] for name in ("operator", "noise")}
    parts = [
        pd.DataFrame(rows | {"estimator": name, "truth": truth, "value": dial.scaled_error(gradients[name], other)})
        for name, (truth, other) in itertools.product(variants, ((t, gradients[t]) for t in dial.TRUTHS))
    ]
    for part in parts:
        part["t"] = np.tile(cell.times, len(part) // len(cell.times))
        part["measurement"] = np.repeat(np.arange(len(part) // len(cell.times)), len(cell.times))
    return pd.concat(parts, ignore_index=True).assign(metric="gradient_error")


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return recommendations, their test, the budgets at which curves cross, and correlations of error and outcome."""
    errors = table[table["metric"] == "gradient_error"]
    ran = table[(table["metric"] == table["aim"]) & (table["status"] == "ok")]
    others = ran.drop(main_part(ran).index)
    ran = main_part(ran)
    values = outcomes(ran)
    made = {"recommended": recommended(values), "held_out": held_out(ran), "crossings": crossings(values)}
    made["errors"] = errors.groupby(["operator", "estimator", "truth", "t"], sort=False, as_index=False)["value"].mean()
    made["correlation"] = correlation(values, made["errors"])
    made["error_times"] = error_times(made["errors"])
    made["transfer"] = transfer(values, others)
    return made | {"facts": facts(values, made)}


def outcomes(ran: pd.DataFrame) -> pd.DataFrame:
    """Return medians over measurements by regime, aim, budget and operator, a column per estimator; inf for none."""
    groups = ran.groupby([*PLACE, "operator", "estimator"], sort=False)["value"]
    lost = groups.agg(lambda values: values.isna().mean())
    table = groups.median().where(lost <= MANY, np.inf).unstack("estimator").fillna(np.inf)
    table = table.clip(lower=pd.Series(table.index.get_level_values("aim").map(LEAST), table.index), axis=0)
    return table[[name for name in CHEAPEST_FIRST if name in table]]


def rule(values: pd.DataFrame) -> pd.Series:
    """Return the estimator with the least geometric mean over operators, by regime, aim and budget."""
    means = np.log(values).groupby(level=PLACE, sort=False).mean()
    return means[np.isfinite(means).any(axis=1)].idxmin(axis=1).rename("estimator")


def recommended(values: pd.DataFrame) -> pd.DataFrame:
    """Return the rule of all operators, with its outcome over greedy's: geometric mean and interval over operators."""
    rows = []
    for key, name in rule(values).items():
        some = values.xs(key, level=PLACE)
        row = dict(zip(PLACE, key, strict=True)) | {"estimator": name, "operators": len(some)}
        rows.append(row | geometric(some[name] / some["greedy"]))
    return pd.DataFrame(rows)


def held_out(ran: pd.DataFrame) -> pd.DataFrame:
    """Return the rule's outcome on each operator that had no part in it, over those of others on the same images."""
    made, tested = (outcomes(ran[ran["measurement"] % 2 == half]) for half in (0, 1))
    operators = made.index.get_level_values("operator")
    rows = []
    for operator in operators.unique() if operators.nunique() > 1 else ():
        names, seen = rule(made[operators != operator]), tested.xs(operator, level="operator")
        for key, name in names.items():
            place, outcome = dict(zip(PLACE, key, strict=True)), seen.loc[key]
            row = place | {"operator": operator, "estimator": name, "over_best": outcome[name] / outcome.min()}
            rows.append(row | {f"over_{other}": outcome[name] / outcome[other] for other in ALWAYS if other in outcome})
    columns = [*PLACE, "operator", "estimator", "over_best", *(f"over_{other}" for other in ALWAYS)]
    return pd.DataFrame(rows, columns=columns)


def transfer(values: pd.DataFrame, elsewhere: pd.DataFrame) -> pd.DataFrame:
    """Return the outcome of the rule at other noise levels and on other data, over the best and over others there."""
    names, rows = rule(values), []
    for (problem, noise), part in elsewhere.groupby(["problem", "noise"], sort=False):
        for (*place, operator), seen in outcomes(part).iterrows():
            if tuple(place) in names.index and names[tuple(place)] in seen:
                name = names[tuple(place)]
                row = dict(zip(PLACE, place, strict=True)) | {"problem": problem, "noise": noise, "operator": operator}
                row |= {"estimator": name, "over_best": seen[name] / seen.min()}
                rows.append(row | {f"over_{other}": seen[name] / seen[other] for other in ALWAYS if other in seen})
    columns = [*PLACE, "problem", "noise", "operator", "estimator", "over_best", *(f"over_{o}" for o in ALWAYS)]
    return pd.DataFrame(rows, columns=columns)


def crossings(values: pd.DataFrame) -> pd.DataFrame:
    """Return the budget from which on end-to-end's geometric mean is at most greedy's, by regime and aim."""
    means, rows = np.log(values).groupby(level=PLACE, sort=False).mean(), []
    if set(ALWAYS) <= set(means):
        for key, some in means.groupby(level=PLACE[:2], sort=False):
            behind = some.index[~(some["end_to_end"] <= some["greedy"])].get_level_values("budget")
            budgets = some.index.get_level_values("budget")
            later = budgets[budgets > max(behind, default=0)]
            rows.append(dict(zip(PLACE[:2], key, strict=True)) | {"budget": min(later, default=np.nan)})
    return pd.DataFrame(rows, columns=[*PLACE[:2], "budget"])


def correlation(values: pd.DataFrame, errors: pd.DataFrame) -> pd.DataFrame:
    """Compute correlations of errors, means over time, with outcomes at the largest budget: mean over operators."""
    means = errors.groupby(["truth", "operator", "estimator"])["value"].mean()
    last = values.xs(values.index.get_level_values("budget").max(), level="budget")
    rows = []
    for (regime, aim), some in last.groupby(level=["regime", "aim"], sort=False):
        some = some.droplevel(["regime", "aim"])
        for truth in dial.TRUTHS if len(means) else ():
            each = [_rank(means[truth, operator], outcome) for operator, outcome in some.iterrows()]
            found = intervals.interval_of_few(np.array(each))
            row = {"regime": regime, "aim": aim, "truth": truth, "operators": len(each)}
            rows.append(row | {"mean": found.mean, "low": found.low, "high": found.high})
    return pd.DataFrame(rows, columns=["regime", "aim", "truth", "operators", "mean", "low", "high"]).dropna()


def error_times(errors: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over operators of each gradient's error at each time, with Student's interval."""
    rows = []
    for key, values in errors.groupby(["truth", "estimator", "t"], sort=False)["value"]:
        found = intervals.interval_of_few(values.to_numpy())
        row = dict(zip(("truth", "estimator", "t"), key, strict=True)) | {"operators": len(values)}
        rows.append(row | {"mean": found.mean, "low": found.low, "high": found.high})
    return pd.DataFrame(rows, columns=["truth", "estimator", "t", "operators", "mean", "low", "high"])


def _rank(error: pd.Series, outcome: pd.Series) -> float:
    """Return the correlation over estimators; NaN for too few of them, and for outcomes that are all alike."""
    both = pd.concat([error, outcome], axis=1, join="inner")
    both = both[np.isfinite(both).all(axis=1)]
    known = len(both) >= ENOUGH and both.iloc[:, 1].nunique() > 1
    return float(intervals.spearman(*both.to_numpy().T)) if known else np.nan


def facts(values: pd.DataFrame, made: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return one row: the rule's success on what it has not seen, crossings, correlations, and the last best ones."""
    row: dict[str, Any] = {"operators": values.index.get_level_values("operator").nunique(), "cases": 0}
    row["budget"] = int(values.index.get_level_values("budget").max())
    for one in made["recommended"].to_dict("records"):
        if one["budget"] == row["budget"]:
            name = f"{one['regime']}_{one['aim']}"
            row |= {f"{name}_best": one["estimator"], f"{name}_ratio": one["mean"]}
    tested = made["held_out"]
    if len(tested):
        row |= {"cases": len(tested), "near": _near(tested["over_best"])}
        for other in ALWAYS:
            row[f"{other}_possible"] = float(_possible(tested[f"over_{other}"]).mean())
            row[f"{other}_near"] = _near(tested["over_best"] / tested[f"over_{other}"])
            row |= {f"{other}_{end}": value for end, value in _over(tested, other).items()}
        for regime, part in tested.groupby("regime", sort=False):
            row |= {f"{regime}_cases": len(part), f"{regime}_near": _near(part["over_best"])}
            row |= {f"{regime}_{o}_{end}": value for o in ALWAYS for end, value in _over(part, o).items()}
    moved = made["transfer"]
    if len(moved):
        row |= {"transfer_cases": len(moved), "transfer_near": _near(moved["over_best"])}
        for other in ALWAYS if _possible(moved["over_end_to_end"]).any() else ():
            row |= {f"transfer_{other}_{end}": value for end, value in _over(moved, other).items()}
    row |= _nearest(made["error_times"])
    for one in made["crossings"].to_dict("records"):
        row[f"{one['regime']}_{one['aim']}_crossing"] = one["budget"]
    for one in made["correlation"].to_dict("records"):
        name = f"{one['regime']}_{one['aim']}_{one['truth']}"
        row |= {name: one["mean"], f"{name}_low": one["low"], f"{name}_high": one["high"]}
    return pd.DataFrame([row])


def _nearest(errors: pd.DataFrame) -> dict[str, Any]:
    """Return the gradient with the least mean error to each reference, at the first time and at the last."""
    row: dict[str, Any] = {}
    for end, t in (("first", errors["t"].min()), ("last", errors["t"].max())) if len(errors) else ():
        row[f"{end}_time"] = t
        for truth, rows in errors[errors["t"] == t].groupby("truth", sort=False):
            best = rows.loc[rows["mean"].idxmin()]
            row |= {f"{truth}_{end}": best["estimator"], f"{truth}_{end}_error": best["mean"]}
    return row


def _near(ratios: pd.Series) -> float:
    """Return the share of outcomes over the best ones that are within ``NEAR``; where there is none they are NaN."""
    return float((ratios <= NEAR).mean())


def _possible(ratios: pd.Series) -> pd.Series:
    """Return where the other could pay for a step: the rule's outcome over none is 0."""
    return np.isfinite(ratios) & (ratios > 0)


def _over(tested: pd.DataFrame, other: str) -> dict[str, float]:
    """Return the geometric mean of the rule's outcomes over another's, with its interval over operators."""
    ratios = tested.set_index("operator")[f"over_{other}"]
    by_operator = np.log(ratios[_possible(ratios)]).groupby(level="operator").mean()
    return geometric(np.exp(by_operator))
