r"""Does an accurate guidance gradient pay, and where: every dial estimator's error beside the error of its samples.

End-to-end estimators approximate the ideal gradient of the loss at the flow's end. The flow of the posterior needs
another vector, the exact likelihood score :math:`h = \nabla_x \log p(y | x_t)`. Gradients are therefore measured
against both, at the middle of each third of time, at states of the exact posterior sampler:
:math:`x_t = \alpha X_1 + \sigma X_0` with :math:`X_1 \sim p(x_1 | y)`. A sampler tunes its step size, so the error is
that at the best scale of each state,

.. math:: \min_{c \ge 0} |c g - g^*| / |g^*| = \sin \angle(g, g^*), \quad\text{and 1 beyond a right angle}.

The outcome is the energy distance to the exact posterior of samples of the posterior's ODE in which -g replaces the
score, at all times or in one third of them with the exact score elsewhere. "tuned" multiplies g by the best of some
scales, chosen on measurements that are not reported; "matched" gives it the length of the exact score, so that only
directions differ. PiGDM and TMPD, which are not on the dial, approximate the score; "ideal" has errors alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis import errors, intervals, reference, sample_distances
from analysis.experiment import Cell
from analysis.gradients import ESTIMATORS
from analysis.measurements import MeasuredBatch
from analysis.operators import OPERATORS
from analysis.paths import PATHS
from analysis.settings import Options, Variant
from analysis.tables import only
from toy_models.experiments import outcome
from toy_models.experiments.outcome import DIAL, NOISE, STEPS
from toy_models.experiments.outcome_windows import WINDOWS
from toy_models.mixtures.gaussian import MixtureFlow
from toy_models.posteriors.replaced_score import Replacement
from toy_models.problems.zoo import build

SUITE = "guidance"
WHOLE = (0.0, 1.0)
ASIDE = {name: Variant.of(name) for name in ("pigdm", "tmpd")}
VARIANTS = DIAL | ASIDE
TRUTHS, KINDS = ("ideal", "score"), ("tuned", "matched")
SCALES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
MEASUREMENTS = 64
TOLERANCE = 1e-11  # of the reference: enough for a bound of 1e-6, at half the cost of the default
FULL = {"estimators": tuple(VARIANTS), "scales": SCALES, "windows": WINDOWS, "tolerance": TOLERANCE}
QUICK = {"estimators": ("greedy", "two_step_euler", "midpoint"), "scales": (0.03,), "tolerance": 1e-10}
QUICK |= {"windows": WINDOWS[::2], "replaced": WINDOWS[:1]}
ENOUGH = 4  # estimators: a correlation of fewer says nothing
PLACE = ["operator", "noise", "estimator", "start", "end"]


def cells(options: Options) -> list[Cell]:
    """Return a cell per operator; only those that ``outcome`` reports also have windows of time."""
    others = [name for name in OPERATORS if name not in outcome.OPERATORS]
    made = []
    for name in outcome.OPERATORS[:1] if options.quick else (*outcome.OPERATORS, *others):
        cell = outcome.cell(options, name, NOISE, "oracle_ode")
        cell = cell if options.quick else replace(cell, samples=MEASUREMENTS)
        extra = QUICK if options.quick else FULL | {"replaced": WINDOWS if name in outcome.OPERATORS else ()}
        made.append(replace(cell, measure=f"{__name__}:measure", variants=(), extra=(*cell.extra, *extra.items())))
    return made


def outcomes(
    flow: MixtureFlow,
    tuning: MeasuredBatch,
    reported: MeasuredBatch,
    replacement: Replacement,
    scales: Sequence[float],
) -> Iterator[dict[str, Any]]:
    """Yield the energy distances (Y,) of a replacement, tuned and with the length of the exact score."""
    for kind, chosen in zip(KINDS, (replacement.tuned(flow, tuning, scales), replacement), strict=True):
        sample = chosen.samples(flow, reported)
        values = sample_distances.energy_distance(reported.finished(sample), reported.exact.samples)
        failed = int(sample.failed.sum())
        yield {"quantity": kind, "scale": chosen.scale, "failed_samples": failed, "value": values}


def scaled_error(g: Tensor, truth: Tensor) -> Tensor:
    """Return min over c >= 0 of |c g - truth| / |truth| (B,): the sine of the angle, or 1 beyond 90°."""
    gap = errors.one_minus_cosine(g, truth)
    return torch.where(gap < 1, (gap * (2 - gap)).clamp_min(0).sqrt(), torch.where(gap.isnan(), gap, 1.0))


def gradients_at(
    flow: MixtureFlow, batch: MeasuredBatch, variants: Mapping[str, Variant], times: Sequence[float], tolerance: float
) -> dict[str, Tensor]:
    """Compute gradients at an exact state of each of Y measurements at T times, measurement by measurement.

    Returns
    -------
    dict
        Gradients (Y * T, d) by estimator, with "ideal", to the tolerance, and "score", minus the likelihood score.
    """
    n = len(times)
    t = torch.tensor(times, dtype=torch.float64).repeat(len(batch.clean))
    noise = batch.x0.unflatten(0, (-1, batch.members))
    x1, x0 = (v[:, 0].repeat_interleave(n, 0) for v in (batch.exact.independent, noise))
    x, loss = flow.path.alpha(t)[:, None] * x1 + flow.path.sigma(t)[:, None] * x0, batch.loss(n)
    ideal = reference.ideal_gradient(flow, loss, x, t, tolerance=tolerance, max_error=math.inf)
    ideal.gradient[~(ideal.error_bound <= reference.MAX_ERROR)] = math.nan  # fails, and is counted
    gradients = {
        name: ESTIMATORS[v.estimator](flow, loss, x, t, **dict(v.options)).gradient for name, v in variants.items()
    }
    return gradients | {"ideal": ideal.gradient, "score": -batch.score(flow.path, n)(x, t)}


def errors_of(gradients: dict[str, Tensor]) -> Iterator[dict[str, Any]]:
    """Yield scaled errors and ratios of lengths (B,) of all gradients but the score, against both truths."""
    for name, g in gradients.items():
        for truth in TRUTHS if name != "score" else ():
            yield {"estimator": name, "quantity": f"{truth}_error", "value": scaled_error(g, gradients[truth])}
            yield {"estimator": name, "quantity": f"{truth}_length", "value": errors.norm_ratio(g, gradients[truth])}


def measure(cell: Cell) -> pd.DataFrame:
    """Return one row per estimator, window of time, quantity and measurement."""
    flow, extra = build(cell.problem, PATHS[cell.path]()), cell.extra_dict
    assert isinstance(flow, MixtureFlow)
    row = cell.columns() | {"operator": extra["operator"], "noise": extra["noise"], "dtype": "float64"}
    row |= {"scale": math.nan, "failed_samples": 0}
    parts = _measured(flow, *outcome.tuning_and_reported(cell, flow), extra)
    return pd.concat([pd.DataFrame(row | part) for part in parts]).reset_index(names="measurement")


def _measured(
    flow: MixtureFlow, tuning: MeasuredBatch, reported: MeasuredBatch, extra: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    windows, times = extra["windows"], [(start + end) / 2 for start, end in extra["windows"]]
    variants = {name: VARIANTS[name] for name in extra["estimators"]}
    for row in errors_of(gradients_at(flow, reported, variants, times, extra["tolerance"])):
        by_time = row["value"].unflatten(0, (-1, len(windows))).unbind(1)
        for (start, end), values in zip(windows, by_time, strict=True):
            yield row | {"start": start, "end": end, "value": values}
    for start, end in (WHOLE, *extra["replaced"]):
        for name in extra["estimators"]:
            replacement = Replacement(VARIANTS[name], (start, end), STEPS)
            rows = outcomes(flow, tuning, reported, replacement, extra["scales"])
            yield from ({"start": start, "end": end, "estimator": name} | row for row in rows)


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return means with intervals, outcomes less greedy's in pairs, and rank correlations of error and outcome."""
    table = pd.concat([table, over_time(table)], ignore_index=True)
    tables = {"summary": summary(pd.concat([table, over_operators(table)])), "correlation": correlation(table)}
    return tables | {"facts": facts(table, **tables)}


def facts(table: pd.DataFrame, summary: pd.DataFrame, correlation: pd.DataFrame) -> pd.DataFrame:
    """Give the correlations with both references, a verdict on each, and greedy's error to the score by time."""
    row: dict[str, Any] = {"noise": table["noise"].iloc[0], "measurements": table["measurement"].nunique()}
    row |= {"operators": table["operator"].nunique(), "estimators": len(set(table["estimator"]) & set(DIAL))}
    whole = only(correlation, operator="all", start=0.0, end=1.0, kind="tuned")
    for rank in whole.to_dict("records") if row["estimators"] >= ENOUGH else ():
        truth = rank["truth"]
        row |= {truth: rank["value"], f"{truth}_low": rank["low"], f"{truth}_high": rank["high"]}
        row[f"{truth}_pays"] = "yes" if rank["low"] > 0 else "no" if rank["high"] < 0 else "unknown"
    errors = only(summary, estimator=["greedy", "ideal"], operator="all", quantity="score_error").sort_values("start")
    for name, part in errors[errors["end"] - errors["start"] < 1].groupby("estimator"):
        row |= {f"{name}_early": part["mean"].iloc[0], f"{name}_late": part["mean"].iloc[-1]}
    lost = int(table["value"].isna().sum())
    return pd.DataFrame([row | ({"lost": lost} if lost else {})])


def over_time(table: pd.DataFrame) -> pd.DataFrame:
    """Return the errors' means over the windows, as rows of the whole of time."""
    rows = table[table["quantity"].str.endswith("_error")]
    keys = ["operator", "noise", "estimator", "quantity", "measurement"]
    means = rows.set_index([*keys, "start"])["value"].unstack().mean(axis=1, skipna=False)
    return means.rename("value").reset_index().assign(start=WHOLE[0], end=WHOLE[1], failed_samples=0)


def over_operators(table: pd.DataFrame) -> pd.DataFrame:
    """Return means over the operators that have a quantity, as rows of an operator "all"."""
    parts = []
    for key, rows in table.groupby([*PLACE[1:], "quantity"], sort=False):
        means = rows.pivot(index="measurement", columns="operator", values="value").mean(axis=1, skipna=False)
        place = dict(zip([*PLACE[1:], "quantity"], key, strict=True), operator="all")
        failed = rows.drop_duplicates("operator")["failed_samples"].sum()
        parts.append(means.rename("value").reset_index().assign(**place, failed_samples=failed))
    return pd.concat(parts)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return means over measurements with intervals, and paired differences from greedy ("over_greedy...")."""
    values = table.set_index([*PLACE, "quantity", "measurement"])["value"].sort_index()
    means = []
    for key, rows in table.groupby([*PLACE, "quantity"], sort=False):
        row = dict(zip([*PLACE, "quantity"], key, strict=True)) | rows.iloc[0][["scale", "failed_samples"]].to_dict()
        row |= asdict(intervals.interval(rows["value"].to_numpy()))
        greedy = values.loc[(*key[:2], "greedy", *key[3:])].to_numpy()
        more = asdict(intervals.paired_interval(values.loc[key].to_numpy(), greedy))
        means.append(row | {f"over_greedy_{name}": more[name] for name in ("mean", "low", "high")})
    return pd.DataFrame(means)


def correlation(table: pd.DataFrame) -> pd.DataFrame:
    """Compute Spearman's correlation, over the dial's estimators, of each error with each outcome.

    An operator's interval is from the bootstrap over measurements, errors and outcomes together. Operator "all" is the
    mean over operators, with Student's interval over them: a statement about operators rests on few.

    Returns
    -------
    DataFrame
        One row per window, operator, error and outcome.
    """
    parts = []
    for (start, end), rows in table[table["estimator"].isin(DIAL)].groupby(["start", "end"]):
        for truth, kind in itertools.product(TRUTHS, KINDS):
            place = {"start": start, "end": end, "truth": truth, "kind": kind}
            parts += [place | row for row in _rank_correlations(rows, f"{truth}_error", kind)]
    return pd.DataFrame(parts)


def _rank_correlations(rows: pd.DataFrame, error: str, kind: str) -> Iterator[dict[str, Any]]:
    """Yield a row per operator that has the outcome, and one for their mean."""
    pairs = {name: _pair(part, error, kind) for name, part in rows.groupby("operator", sort=False)}
    pairs = {name: pair for name, pair in pairs.items() if pair.size}
    if pairs:
        ends = intervals.bootstrap(_correlations_of_means, *pairs.values())
        for name, value, low, high in zip(pairs, *ends, strict=True):
            yield {"operator": name, "value": value, "low": low, "high": high}
        mean = intervals.interval_of_few(ends[0])
        yield {"operator": "all", "value": mean.mean, "low": mean.low, "high": mean.high}


def _correlations_of_means(*pairs: np.ndarray) -> np.ndarray:
    """Return correlations of the means over measurements of pairs (R, Y_i, 2, n), (R, K)."""
    means = [pair.mean(1) for pair in pairs]
    return np.stack([intervals.spearman(pair[:, 0], pair[:, 1]) for pair in means], axis=1)


def _pair(rows: pd.DataFrame, error: str, kind: str) -> np.ndarray:
    """Return errors and outcomes (Y, 2, n) of n estimators, on the measurements where none of them failed."""
    rows = rows[rows["quantity"].isin([error, kind])]
    wide = rows.pivot(index="measurement", columns=["quantity", "estimator"], values="value").sort_index(axis=1)
    usable = wide[np.isfinite(wide).all(axis=1)]
    parts = [usable.loc[:, usable.columns.get_level_values(0) == name].to_numpy() for name in (error, kind)]
    return np.stack(parts, axis=1) if all(part.shape[1] for part in parts) else np.empty((0, 2, 0))
