"""Tables derived from the audit of the bounds: violations, and the share of each bound that the error uses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.tables import only

RESOLVED = 0.02  # the largest allowance, as a fraction of the sharpest bound
LEVELS = {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95, "largest": 1.0}
BOUNDS = ("a_priori", "sup_form", "integral_form", "gronwall", "logarithmic_norm")


def judge(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Judge every bound: violations and quantiles of measured over bound, by solver and decade of zeta."""
    table = table.assign(solver=table["solver"].fillna(""))
    long = table.melt(
        [c for c in table.columns if c not in BOUNDS], value_vars=list(BOUNDS), var_name="bound", value_name="limit"
    ).dropna(subset=["limit"])
    long["resolved"] = (long["allowance"] <= RESOLVED * long["limit"]) & np.isfinite(long["allowance"])
    long["violated"] = long["error"] > long["limit"] + long["allowance"]
    long["vacuous"] = long["limit"] > long["trivial"]
    long["tightness"] = long["error"] / long["limit"]
    long["decade"] = _decade(long["zeta"])
    keys = ["bound", "estimator", "solver", "decade"]
    loosest = long.loc[long[long["resolved"]].groupby("bound")["tightness"].idxmin()]
    judged = {"tightness": _judge(long, keys), "overall": _judge(long, ["bound"]), "loosest": loosest}
    judged |= {"estimates": _estimates(table), "identity": _identity(table)}
    return judged | {"facts": facts(judged["overall"], loosest, judged["identity"])}


def _identity(table: pd.DataFrame) -> pd.DataFrame:
    """Judge the identity behind the greedy bounds, by decade of zeta: it fails where the gap exceeds its allowance."""
    rows = table.dropna(subset=["identity_allowance"])
    rows = rows.assign(
        failed=rows["identity_gap"] > rows["identity_allowance"],
        unresolved=~(rows["identity_allowance"] <= RESOLVED * rows["integral_form"]),
        gap=rows["identity_gap"] / rows["integral_form"],
        decade=_decade(rows["zeta"]),
    )
    grouped = rows.groupby("decade")
    counts = grouped.agg(cases=("gap", "size"), failed=("failed", "sum"), unresolved=("unresolved", "sum"))
    return counts.join(grouped["gap"].agg(median="median", largest="max")).reset_index()


def facts(overall: pd.DataFrame, loosest: pd.DataFrame, identity: pd.DataFrame) -> pd.DataFrame:
    """Give whether the bounds hold, the share of each that is used, the a-priori bound's failures, and the worst."""
    by = overall.set_index("bound")
    row: dict[str, Any] = {"holds": bool((by["violated"] == 0).all()), "violated": int(by["violated"].sum())}
    row |= {"cases": int(by["cases"].min())} | by["median"].to_dict()
    failed, resolved = int(identity["failed"].sum()), int((identity["cases"] - identity["unresolved"]).sum())
    row |= {"identity_holds": failed == 0, "identity_failed": failed, "identity_resolved": resolved}
    row |= {f"{bound}_vacuous": share for bound, share in (by["vacuous"] / by["cases"]).items()}
    worst = only(loosest, bound="integral_form")
    if len(worst):
        row |= {"loosest": worst["problem"].iloc[0], "loosest_zeta": worst["zeta"].iloc[0]}
    return pd.DataFrame([row])


def _estimates(table: pd.DataFrame) -> pd.DataFrame:
    """Compare estimates that need no truth with the error: their ratio by solver, steps and decade of zeta."""
    names = ["leading_term", "step_doubling"]
    known = [c for c in table.columns if c not in names]
    long = table.melt(known, value_vars=names, var_name="estimate", value_name="size").dropna(subset=["size"])
    long = long[long["allowance"] <= RESOLVED * long["error"]]
    long = long.assign(ratio=long["size"] / long["error"], decade=_decade(long["zeta"]))
    keys = ["estimate", "solver", "steps", "decade"]
    grouped = long.groupby(keys, dropna=False)["ratio"]
    spread = grouped.quantile(list(LEVELS.values())).unstack()
    spread.columns = pd.Index(list(LEVELS))
    return spread.assign(cases=grouped.size()).reset_index()


def _decade(zeta: pd.Series) -> pd.Series:
    return np.floor(np.log10(zeta) + 1e-9).astype(int)


def _judge(long: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Count cases, violations, vacuous and unresolved ones; quantiles are of the resolved cases."""
    counted = long.assign(unresolved=~long["resolved"]).groupby(keys)
    columns = {"cases": ("error", "size")} | {c: (c, "sum") for c in ("violated", "vacuous", "unresolved")}
    counts = counted.agg(**columns)
    spread = long[long["resolved"]].groupby(keys)["tightness"].quantile(list(LEVELS.values())).unstack()
    spread.columns = pd.Index(list(LEVELS))
    return counts.join(spread).reset_index()
