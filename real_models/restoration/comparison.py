"""Statistics of restored digits: by method and operator, over operators, and which error predicts which outcome.

Medians are over images, since a few that are restored badly would decide a mean; a sample that diverged is counted and
has no part in them. What is said over operators is a mean over them with Student's interval. A method is shown at its
best budget by the aim that it was tuned for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from analysis import intervals

ERROR = "gradient_error"
PLACE = ["operator", "regime", "estimator"]
KEYS = [*PLACE, "budget", "aim", "metric"]
BETTER = {"misfit": 1, "psnr": -1}  # the sign under which less is better, by aim
ENOUGH = 4  # estimators: a correlation of fewer says nothing
STARTS = {"source": "", "source_late": "late_"}  # regimes, each with what its facts' names begin with
FITS = 1.0  # a misfit below it fits noise: one is as good as another


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the tables that figures and pages draw on, by what they hold.

    Methods are compared at their best budgets among those that all of them have.

    Returns
    -------
    dict of str to DataFrame
        Tables "summary", "best", "pooled", "budgets", "source_facts", "correlation", "choices" and "facts".
    """
    table = table.assign(aim=table["aim"].fillna("none"), budget=table["budget"].fillna(0))
    restored = table[(table["metric"] != ERROR) & table["metric"].notna()]
    means = summary(restored)
    best = at_best_budget(means[means["budget"] <= _budgets(means).groupby(PLACE)["budget"].max().min()])
    tables = {"summary": means, "best": best, "pooled": pooled(best), "budgets": over_budgets(means)}
    errors = table[table["metric"] == ERROR]
    tables["source_facts"] = source_facts(tables["budgets"], correlation(errors, _largest(means)))
    tables["correlation"] = correlation(errors, best)
    tables["choices"] = choices(table)
    return tables | {"facts": facts(table, tables)}


def summary(restored: pd.DataFrame) -> pd.DataFrame:
    """Return medians and means over images with the interval of the mean, and the number of samples that failed."""
    rows = []
    for key, part in restored.groupby(KEYS, sort=False):
        found = intervals.interval(part["value"].to_numpy(float))
        row = dict(zip(KEYS, key, strict=True)) | {"median": part["value"].median(), "mean": found.mean}
        row |= {"low": found.low, "high": found.high, "failed": found.failed, "images": found.measurements}
        rows.append(row | part.iloc[0][["count", "evaluations", "vjps"]].to_dict())
    return pd.DataFrame(rows)


def _budgets(means: pd.DataFrame) -> pd.DataFrame:
    return means[means["aim"] != "none"]


def _largest(means: pd.DataFrame) -> pd.DataFrame:
    guided = _budgets(means)
    return guided[guided["budget"] == guided.groupby("regime")["budget"].transform("max")]


def over_budgets(means: pd.DataFrame) -> pd.DataFrame:
    """Return ``pooled`` at each budget of a regime, over the operators that have all budgets of the regime.

    Returns
    -------
    DataFrame
        One row per regime, aim, estimator and budget; a method of which more than half of the samples failed on an
        operator has no outcome there.
    """
    parts = []
    guided = _budgets(means)
    guided = guided.assign(median=guided["median"].where(guided["failed"] <= guided["images"] / 2))
    for _, own in guided.groupby("regime", sort=False):
        counts = own.groupby("operator")["budget"].nunique()
        complete = own[own["operator"].isin(counts.index[counts == counts.max()])]
        parts += [pooled(part).assign(budget=budget) for budget, part in complete.groupby("budget")]
    return pd.concat(parts, ignore_index=True)


def source_facts(budgets: pd.DataFrame, ranks: pd.DataFrame) -> pd.DataFrame:
    """Return one row: outcomes over greedy's at the largest budget of source optimisation, and where misfits meet.

    ``ranks`` are correlations at the largest budget of each regime.

    End-to-end meets greedy at the least budget from which on its misfit is not larger.

    Returns
    -------
    DataFrame
        Columns "budget", "operators", "ESTIMATOR_AIM", its "_low" and "_high", "meets", "meets_at" if it does, and
        "rank" of error and misfit with its interval; with "late_" before them for the late start.
    """
    row: dict[str, Any] = {}
    for regime, prefix in STARTS.items():
        own = budgets[budgets["regime"] == regime]
        found = _facts(own) if len(own) else {}
        for one in ranks[(ranks["regime"] == regime) & (ranks["aim"] == "misfit")].to_dict("records"):
            found |= {"rank": one["mean"], "rank_low": one["low"], "rank_high": one["high"]}
        row |= {f"{prefix}{key}": value for key, value in found.items()}
    return pd.DataFrame([row])


def _facts(own: pd.DataFrame) -> dict[str, Any]:
    row: dict[str, Any] = {"budget": own["budget"].max(), "operators": own["over_greedy_operators"].min()}
    for one in own[own["budget"] == row["budget"]].to_dict("records"):
        for end in ("mean", "low", "high"):
            name = f"{one['estimator']}_{one['aim']}_{end}".removesuffix("_mean")
            row[name] = one[f"over_greedy_{end}"]
    dear = own[(own["estimator"] == "end_to_end") & (own["aim"] == "misfit")].sort_values("budget")
    if len(dear):
        better = (dear["over_greedy_mean"] <= 1)[::-1].cummin()
        row["meets"] = "meets" if better.any() else "never"
        row |= {"meets_at": dear.loc[better[better].index, "budget"].min()} if better.any() else {}
    return row


def at_best_budget(means: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each method's best budget, by the median of the metric that it was tuned for.

    A budget at which more than half of the samples failed is not one; references have one budget and no aim.

    Returns
    -------
    DataFrame
        The rows of the summary, a budget for each operator, method and aim.
    """
    parts = [means[means["aim"] == "none"]]
    for aim, sign in BETTER.items():
        own = means[(means["aim"] == aim) & (means["metric"] == aim) & (means["failed"] <= means["images"] / 2)]
        chosen = own.loc[(sign * own["median"]).groupby([own[name] for name in PLACE], sort=False).idxmin()]
        parts.append(means.merge(chosen[[*PLACE, "budget", "aim"]]))
    return pd.concat(parts, ignore_index=True)


def pooled(best: pd.DataFrame) -> pd.DataFrame:
    """Return means over operators by regime, method and aim, and those of the difference to greedy in its regime.

    Misfits, which range over decades, have geometric means of max(misfit, 1), and ratios in place of differences.

    Returns
    -------
    DataFrame
        One row per regime, aim and estimator.
    """
    rows = []
    for (regime, aim), part in best[best["aim"] == best["metric"]].groupby(["regime", "aim"], sort=False):
        values = part.pivot(index="operator", columns="estimator", values="median")
        values = np.log(values.clip(lower=FITS)) if aim == "misfit" else values
        for name in values:
            row = {"regime": regime, "aim": aim, "estimator": name} | _ends(values[name], aim)
            gap = values[name] - values.get("greedy", np.nan)
            rows.append(row | {f"over_greedy_{end}": value for end, value in _ends(gap, aim).items()})
    return pd.DataFrame(rows)


def _ends(values: pd.Series, aim: str) -> dict[str, float]:
    found = intervals.interval_of_few(values.to_numpy(float))
    ends = {"mean": found.mean, "low": found.low, "high": found.high}
    ends = {end: float(np.exp(v)) for end, v in ends.items()} if aim == "misfit" else ends
    return ends | {"operators": found.measurements - found.failed}


def correlation(errors: pd.DataFrame, best: pd.DataFrame) -> pd.DataFrame:
    """Compute Spearman's correlation over the dial of the median gradient error with the outcome, by regime and aim.

    It is positive where the gradient that errs less leads to the better outcome; a mean over operators.

    Returns
    -------
    DataFrame
        One row per regime and aim with enough estimators.
    """
    medians = errors.groupby(["operator", "estimator"])["value"].median()
    rows = []
    for (regime, aim), part in best[best["aim"] == best["metric"]].groupby(["regime", "aim"], sort=False):
        each = [_rank(medians, operator, some, BETTER[aim]) for operator, some in part.groupby("operator")]
        known = np.array([value for value in each if np.isfinite(value)])
        if len(known):
            found = intervals.interval_of_few(known)
            row = {"regime": regime, "aim": aim, "operators": len(known), "mean": found.mean}
            rows.append(row | {"low": found.low, "high": found.high})
    return pd.DataFrame(rows, columns=["regime", "aim", "operators", "mean", "low", "high"])


def _rank(medians: pd.Series, operator: str, part: pd.DataFrame, sign: int) -> float:
    outcome = sign * part.set_index("estimator")["median"]
    error = medians[operator] if operator in medians.index.get_level_values(0) else medians[:0]
    both = pd.concat([error, outcome], axis=1, join="inner").dropna()
    known = len(both) >= ENOUGH and (both.nunique() > 1).all()
    return float(intervals.spearman(*both.to_numpy(float).T)) if known else np.nan


def choices(table: pd.DataFrame) -> pd.DataFrame:
    """Return the chosen options, one row per operator, regime, method, budget and aim."""
    columns = [*PLACE, "budget", "aim", "chosen", "count", "at_end_of_range"]
    return table.dropna(subset="chosen")[columns].drop_duplicates(ignore_index=True)


def facts(table: pd.DataFrame, tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return one row: sizes, the methods most often best, end-to-end against greedy by regime, and correlations."""
    guided = _budgets(tables["best"])
    row: dict[str, Any] = {"images": int(guided["images"].max()), "operators": guided["operator"].nunique()}
    row |= {"noise": table["noise"].iloc[0], "budget": int(guided["budget"].max())}
    row |= {"at_end_of_range": float(tables["choices"]["at_end_of_range"].astype(float).mean())}
    psnr = guided[(guided["metric"] == "psnr") & (guided["aim"] == "psnr")].reset_index(drop=True)
    whole = psnr[psnr["failed"] == 0]  # a median over some of the images is not compared with one over all
    wins = whole.loc[whole.groupby("operator")["median"].idxmax()]
    counts = wins.groupby(["regime", "estimator"]).size()
    row |= {"best_regime": counts.idxmax()[0], "best": counts.idxmax()[1], "wins": int(counts.max())}
    row |= dict(_orders(tables["pooled"]))
    for one in tables["correlation"].to_dict("records"):
        row |= {f"{one['regime']}_{one['aim']}_rank{end}": one[e] for end, e in (("", "mean"), ("_low", "low"))}
        row[f"{one['regime']}_{one['aim']}_rank_high"] = one["high"]
    lost = table[table["status"].astype(str).str.startswith("loss must be linear")]
    row |= {"refused": lost["estimator"].iloc[0], "refused_on": lost["operator"].nunique()} if len(lost) else {}
    return pd.DataFrame([row])


def _orders(pools: pd.DataFrame) -> Iterator[tuple[str, Any]]:
    """Yield end-to-end's and greedy's outcomes by regime and aim, and which of them is better by the interval."""
    for (regime, aim), part in pools.groupby(["regime", "aim"], sort=False):
        rows = part.set_index("estimator")
        for name in {"greedy", "end_to_end"} & set(rows.index):
            yield f"{regime}_{aim}_{name}", rows.loc[name, "mean"]
        if "end_to_end" in rows.index:
            one = 1.0 if aim == "misfit" else 0.0
            low, high = BETTER[aim] * (rows.loc["end_to_end", ["over_greedy_low", "over_greedy_high"]] - one)
            better, worse = max(low, high) < 0, min(low, high) > 0
            yield f"{regime}_{aim}_order", "end" if better else "greedy" if worse else None
