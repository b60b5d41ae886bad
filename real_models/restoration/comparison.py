"""Statistics of restored digits: means and paired differences with intervals, and two orders compared.

The order of the dial's estimators by the error of their gradients, the median over states and times, is compared with
their order by mean PSNR: Spearman's correlation of PSNR with accuracy, 1 where the more accurate gradient always
restores better. Its interval is given by percentiles over bootstrap resamples of images, the same resamples for all
estimators; the restored images and the images on whose trajectories errors were measured are resampled separately.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from analysis import intervals
from analysis.tables import only
from real_models.restoration.methods import DIAL

FAMILIES = {"dial": "", "equal_steps": "_equal"}  # and the end of the names of their methods
ACCURACY = "gradient_error"
SPENT = ["family", "steps", "evaluations", "vjps", "options", "status"]


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the tables "summary", "paired", "paper", "dial" and "ranks"."""
    restored = table[table["metric"] != ACCURACY]
    means = summary(restored)
    tables = {"summary": means, "paired": paired(restored), "paper": printed_table(means)}
    tables |= {"dial": dial(table), "ranks": ranks(table)}
    return tables | {"facts": facts(table, **{name: tables[name] for name in ("summary", "paired", "ranks")})}


def facts(table: pd.DataFrame, summary: pd.DataFrame, paired: pd.DataFrame, ranks: pd.DataFrame) -> pd.DataFrame:
    """Give the method most often best by PSNR, counts of significant differences to greedy, and the correlations."""
    methods = summary[~summary["estimator"].isin(["clean", "measurement"]) & (summary["family"] != "equal_steps")]
    psnr = only(methods, metric="psnr").dropna(subset="mean")
    wins = psnr.loc[psnr.groupby("operator")["mean"].idxmax(), "estimator"].value_counts()
    row: dict[str, Any] = {"images": int(summary["measurements"].max()), "operators": psnr["operator"].nunique()}
    row |= {"noise": table["noise"].iloc[0], "budget": int(table["budget"].iloc[0])}
    row |= {"best": wins.index[0], "wins": int(wins.iloc[0])}
    pairs = paired[(paired["metric"] == "psnr") & paired["estimator"].isin(set(psnr["estimator"]) - {"greedy"})]
    row |= {"pairs": len(pairs), "better": int((pairs["low"] > 0).sum()), "worse": int((pairs["high"] < 0).sum())}
    clean = only(summary, estimator="clean", metric="label")["mean"]
    row |= {"clean": clean.iloc[0]} if len(clean) else {}
    for rank in only(ranks, operator="all").to_dict("records"):
        row |= {rank["family"]: rank["spearman"]}
        row |= {f"{rank['family']}_{end}": rank[end] for end in ("low", "high")}
    refused = methods[(methods["metric"] == "psnr") & (methods["failed"] > 0)]
    refused = refused[~refused["status"].str.startswith("diverged")]
    if len(refused):
        row |= {"refused": refused["estimator"].iloc[0]}
        row["refused_on"] = only(refused, estimator=row["refused"])["operator"].nunique()
    fits = only(methods, metric="misfit")
    shown = fits.groupby("estimator")["mean"].median()
    row |= {f"{name}_misfit": shown[name] for name in ("greedy", "dps", "pigdm") if name in shown}
    return pd.DataFrame([row])


def _groups(restored: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    keys = ["operator", "estimator", "metric"]
    for key, rows in restored.groupby(keys, sort=False):
        bad = rows[rows["status"] != "ok"]
        spent = (bad if len(bad) else rows).iloc[0][SPENT].to_dict()  # where any failed, the first reason
        yield dict(zip(keys, key, strict=True)) | spent, rows


def summary(restored: pd.DataFrame) -> pd.DataFrame:
    """Return means over images with intervals, by operator, method and metric, and how many images failed."""
    return pd.DataFrame([row | asdict(intervals.interval(rows["value"])) for row, rows in _groups(restored)])


def paired(restored: pd.DataFrame) -> pd.DataFrame:
    """Return mean differences to greedy, with intervals; those of equal steps are to greedy with as many steps."""
    values = restored.pivot(index=["operator", "metric", "estimator"], columns="order", values="value")
    differences = []
    for row, _ in _groups(restored):
        greedy = f"greedy{FAMILIES.get(row['family'], '')}"
        pair = (values.loc[(row["operator"], row["metric"], name)] for name in (row["estimator"], greedy))
        difference = intervals.paired_interval(*(v.to_numpy(float) for v in pair))
        differences.append(row | {"against": greedy} | asdict(difference))
    return pd.DataFrame(differences)


def printed_table(means: pd.DataFrame) -> pd.DataFrame:
    """Return methods x operators, a row per metric and method: "mean [low, high]", and failures where any."""
    ends = zip(means["mean"], means["low"], means["high"], means["failed"], strict=True)
    texts = [f"{m:.3g} [{a:.3g}, {b:.3g}]" + (f", {n} failed" if n else "") for m, a, b, n in ends]
    wide = means.assign(text=texts).pivot(index=["metric", "estimator"], columns="operator", values="text")
    return wide.reset_index()


def dial(table: pd.DataFrame) -> pd.DataFrame:
    """Return the median error of each estimator's gradient, with quartiles, and its PSNR, by operator and family."""
    rows = table[table["metric"] == ACCURACY]
    if rows.empty:
        return pd.DataFrame(
            columns=["operator", "family", "estimator", "error", "error_low", "error_high", "psnr", "psnr_less_mean"]
        )
    quartiles = rows.groupby(["operator", "estimator"])["value"].quantile([0.25, 0.5, 0.75]).unstack()
    psnr = _matrices(table)
    medians = []
    for (operator, name), errors in quartiles.iterrows():
        for family, suffix in FAMILIES.items():
            values = intervals.interval(psnr[operator, f"{name}{suffix}"])
            row = {"operator": operator, "family": family, "estimator": name, "error_low": errors[0.25]}
            row |= {"error": errors[0.5], "error_high": errors[0.75], "psnr": values.mean}
            medians.append(row | {"psnr_low": values.low, "psnr_high": values.high})
    table_rows = pd.DataFrame(medians)
    centre = table_rows.groupby(["operator", "family"])["psnr"].transform("mean")  # over estimators
    return table_rows.assign(psnr_less_mean=table_rows["psnr"] - centre)


def _matrices(table: pd.DataFrame) -> dict[tuple[str, str], np.ndarray]:
    """Return the PSNR (images,) by operator and method; a failed image counts as 0 dB, the least there is."""
    rows = table[table["metric"] == "psnr"].sort_values("order", kind="stable")
    groups = rows.groupby(["operator", "estimator"], sort=False)["value"]
    return {(str(key[0]), str(key[1])): values.fillna(0.0).to_numpy(float) for key, values in groups}


def _errors(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the relative errors (estimators, images, times) by operator."""
    rows = table[table["metric"] == ACCURACY]
    by_operator = {}
    for operator, part in rows.groupby("operator", sort=False):
        wide = part.pivot(index=["estimator", "order"], columns="t", values="value")
        by_operator[str(operator)] = np.stack([wide.loc[name].to_numpy(float) for name in DIAL])
    return by_operator


def ranks(table: pd.DataFrame) -> pd.DataFrame:
    """Return the correlation of accuracy and PSNR, by family, for each operator and, as "all", their mean."""
    errors, psnr, rows = _errors(table), _matrices(table), []
    for family, suffix in FAMILIES.items() if errors else ():
        restored = [[psnr[operator, f"{name}{suffix}"] for name in DIAL] for operator in errors]
        # Images first: one that is drawn is drawn for all operators and estimators.
        samples = np.moveaxis(np.stack(list(errors.values())), 2, 0), np.moveaxis(np.array(restored), 2, 0)
        ends = intervals.bootstrap(_correlations, *samples)
        for operator, value, low, high in zip((*errors, "all"), *ends, strict=True):
            row = {"operator": operator, "family": family, "estimators": len(DIAL), "spearman": value}
            rows.append(row | {"low": low, "high": high})
    return pd.DataFrame(rows, columns=["operator", "family", "estimators", "spearman", "low", "high"])


def _correlations(errors: np.ndarray, psnr: np.ndarray) -> np.ndarray:
    """Correlate accuracy with PSNR for R resamples of ``errors`` (R, images, operators, estimators, times).

    ``psnr`` is (R, images, operators, estimators).

    Returns
    -------
    np.ndarray
        The correlations by operator, and their mean, (R, operators + 1).
    """
    each = intervals.spearman(-np.nanmedian(errors, axis=(1, 4)), psnr.mean(1))
    return np.concatenate([each, each.mean(1, keepdims=True)], axis=1)
