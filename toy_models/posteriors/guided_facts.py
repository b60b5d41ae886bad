"""Facts about guided samplers and the exact posterior: distances, paired comparisons, and coverage."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.tables import only

DISTANCE, COVERAGE = "energy_distance", "coverage_"
BASELINE = "likelihood:greedy"
ENOUGH = 3  # comparisons: of fewer no verdict is given


def guided_facts(summary: pd.DataFrame, paired: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the tables "facts", "coverage" and "coverage_facts"."""
    distances = facts(only(summary, metric=DISTANCE), only(paired, metric=DISTANCE))
    levels = coverage(only(summary, noise=distances["noise"].iloc[0]))
    return {"facts": distances, "coverage": levels, "coverage_facts": coverage_facts(levels)}


def facts(summary: pd.DataFrame, paired: pd.DataFrame) -> pd.DataFrame:
    """Give the share of the way from unguided samples to the posterior that greedy closes, and paired counts.

    ``noise`` is the level at which all methods were run; ``pays`` is a verdict, given where there are enough
    comparisons.

    Returns
    -------
    DataFrame
        One row.
    """
    means = summary.pivot_table(index=["operator", "noise"], columns="estimator", values="mean")
    means = means.reindex(columns=["unguided", BASELINE, "exact"])  # one that failed everywhere is missing
    closed = (means["unguided"] - means[BASELINE]) / (means["unguided"] - means["exact"])
    noise = summary.groupby("noise")["estimator"].nunique().idxmax()
    main, greedy = only(summary, noise=noise), only(summary, estimator=BASELINE)
    row: dict[str, Any] = {"noise": noise, "closed_low": closed.min(), "closed_high": closed.max()}
    row |= {"cases": len(greedy), "reached": int((greedy["low"] <= 0).sum())}
    row |= {"greedy_low": greedy["mean"].min(), "greedy_high": greedy["mean"].max()}
    oracle = only(summary, estimator="oracle_ode")["mean"]
    row |= {"oracle_low": oracle.min(), "oracle_high": oracle.max(), "measurements": int(main["measurements"].max())}
    row |= {"total": int((summary["samples"] * summary["measurements"]).sum())}
    row |= {"diverged": lost} if (lost := int(summary["failed_samples"].sum())) else {}
    further = only(paired, family="likelihood")
    further = further[~further["estimator"].str.contains("greedy")]
    better, worse = int((further["high"] < 0).sum()), int((further["low"] > 0).sum())
    if len(further) >= ENOUGH:
        row["pays"] = "yes" if better > worse else "no" if worse > better else "even"
        row |= {"further": len(further), "better": better, "worse": worse}
    return pd.DataFrame([row])


def coverage(summary: pd.DataFrame) -> pd.DataFrame:
    """Compute the shares of exact samples inside central intervals, and their excess over the nominal level.

    Returns
    -------
    DataFrame
        ``mean`` is the share itself, ``low`` and ``high`` are the interval of the excess.
    """
    rows = summary[summary["metric"].str.startswith(COVERAGE)]
    level = rows["metric"].str.removeprefix(COVERAGE).astype(float)
    ends = {"excess": rows["mean"] - level, "low": rows["low"] - level, "high": rows["high"] - level}
    return rows[["operator", "estimator", "mean"]].assign(level=level, **ends).reset_index(drop=True)


def coverage_facts(levels: pd.DataFrame) -> pd.DataFrame:
    """Give the shares inside the widest intervals of greedy, the oracle and unguided samples, over operators."""
    widest = only(levels, level=levels["level"].max())
    row: dict[str, Any] = {"level": widest["level"].iloc[0], "operators": widest["operator"].nunique()}
    for name, estimator in (("greedy", BASELINE), ("oracle", "oracle_ode"), ("unguided", "unguided")):
        shares = only(widest, estimator=estimator)["mean"]
        row |= {f"{name}_low": shares.min(), f"{name}_high": shares.max()} if len(shares) else {}
    return pd.DataFrame([row])
