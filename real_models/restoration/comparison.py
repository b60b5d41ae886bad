"""What the table of restored digits says: means and paired differences with intervals, and two orders compared.

The order of the dial's rungs by the error of their gradients, the median over states and times, is compared with their
order by mean PSNR: Spearman's correlation of PSNR with accuracy, 1 where the more accurate gradient always restores
better. Its interval is the percentiles over bootstrap draws of images, the same draw for all rungs; the two kinds of
images, those restored and those on whose trajectories errors were measured, are drawn separately.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis import intervals
from real_models.restoration.methods import DIAL

FAMILIES = {"dial": "", "equal_steps": "_equal"}  # and what follows a rung in the names of its methods
RESAMPLES, LEVEL, SEED = 999, 0.95, 0
ACCURACY = "gradient_error"
SPENT = ["family", "steps", "evaluations", "vjps", "options", "status"]


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the tables "summary", "paired", "paper", "dial" and "ranks"."""
    restored = table[table["metric"] != ACCURACY]
    found = {"summary": summary(restored), "paired": paired(restored)}
    found["paper"] = paper(found["summary"])
    return found | {"dial": dial(table), "ranks": ranks(table)}


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
    """Return mean differences to greedy, of as many steps for a method of equal steps, with intervals."""
    values = restored.pivot(index=["operator", "metric", "estimator"], columns="order", values="value")
    found = []
    for row, _ in _groups(restored):
        greedy = f"greedy{FAMILIES.get(row['family'], '')}"
        pair = (values.loc[(row["operator"], row["metric"], name)] for name in (row["estimator"], greedy))
        found.append(row | {"against": greedy} | asdict(intervals.paired_interval(*(v.to_numpy(float) for v in pair))))
    return pd.DataFrame(found)


def paper(found: pd.DataFrame) -> pd.DataFrame:
    """Return methods x operators, a row per metric and method: "mean [low, high]", and failures where any."""
    ends = zip(found["mean"], found["low"], found["high"], found["failed"], strict=True)
    shown = [f"{m:.3g} [{a:.3g}, {b:.3g}]" + (f", {n} failed" if n else "") for m, a, b, n in ends]
    wide = found.assign(shown=shown).pivot(index=["metric", "estimator"], columns="operator", values="shown")
    return wide.reset_index()


def dial(table: pd.DataFrame) -> pd.DataFrame:
    """Return the median error of each rung's gradient, with quartiles, beside its PSNR, by operator and family."""
    rows = table[table["metric"] == ACCURACY]
    if rows.empty:
        return pd.DataFrame(columns=["operator", "family", "rung", "error", "error_low", "error_high", "psnr"])
    quartiles = rows.groupby(["operator", "estimator"])["value"].quantile([0.25, 0.5, 0.75]).unstack()
    psnr = _matrices(table)
    found = []
    for (operator, rung), errors in quartiles.iterrows():
        for family, suffix in FAMILIES.items():
            values = intervals.interval(psnr[operator, f"{rung}{suffix}"])
            place = {"operator": operator, "family": family, "rung": rung, "error_low": errors[0.25]}
            place |= {"error": errors[0.5], "error_high": errors[0.75], "psnr": values.mean}
            found.append(place | {"psnr_low": values.low, "psnr_high": values.high})
    return pd.DataFrame(found)


def _matrices(table: pd.DataFrame) -> dict[tuple[str, str], np.ndarray]:
    """Return the PSNR of the images, in order, by operator and method; 0 dB, the least there is, where one failed."""
    rows = table[table["metric"] == "psnr"].sort_values("order", kind="stable")
    groups = rows.groupby(["operator", "estimator"], sort=False)["value"]
    return {(str(key[0]), str(key[1])): values.fillna(0.0).to_numpy(float) for key, values in groups}


def _errors(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the relative errors (rungs, images, times) by operator."""
    rows = table[table["metric"] == ACCURACY]
    found = {}
    for operator, part in rows.groupby("operator", sort=False):
        wide = part.pivot(index=["estimator", "order"], columns="t", values="value")
        found[str(operator)] = np.stack([wide.loc[rung].to_numpy(float) for rung in DIAL])
    return found


def correlation(errors: np.ndarray, psnr: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation of accuracy, errors (..., rungs) negated, and psnr (..., rungs), (...)."""
    ranked = [stats.rankdata(values, axis=-1) for values in (-errors, psnr)]
    a, b = (rank - rank.mean(-1, keepdims=True) for rank in ranked)
    return (a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1))


def ranks(table: pd.DataFrame) -> pd.DataFrame:
    """Return the correlation of accuracy and PSNR, by family, for each operator and, as "all", their mean."""
    errors, psnr, found = _errors(table), _matrices(table), []
    for family, suffix in FAMILIES.items() if errors else ():
        restored = np.stack([[psnr[operator, f"{rung}{suffix}"] for rung in DIAL] for operator in errors])
        plain, drawn = _drawn(np.stack(list(errors.values())), restored)
        for i, operator in enumerate([*errors, "all"]):
            value, draws = (v.mean(-1) if operator == "all" else v[..., i] for v in (plain, drawn))
            ends = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            row = {"operator": operator, "family": family, "rungs": len(DIAL), "spearman": float(value)}
            found.append(row | {"low": float(ends[0]), "high": float(ends[1])})
    return pd.DataFrame(found, columns=["operator", "family", "rungs", "spearman", "low", "high"])


def _drawn(errors: np.ndarray, psnr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the correlations (operators,), and those of bootstrap draws of images, (draws, operators).

    ``errors`` is (operators, rungs, images, times), ``psnr`` (operators, rungs, images); an image that is drawn is
    drawn for all operators and rungs.
    """
    generator = np.random.default_rng(SEED)
    some, restored = (generator.integers(n, size=(RESAMPLES, n)) for n in (errors.shape[2], psnr.shape[2]))
    medians = np.nanmedian(errors[:, :, some], axis=(3, 4))  # (operators, rungs, draws)
    means = psnr[:, :, restored].mean(3)
    drawn = correlation(np.moveaxis(medians, 1, 2), np.moveaxis(means, 1, 2)).T
    return correlation(np.nanmedian(errors, axis=(2, 3)), psnr.mean(2)), drawn
