r"""Does an accurate guidance gradient pay, and where: the error of every rung of the dial beside what it draws.

End-to-end rungs approximate the ideal gradient of the loss at the flow's end. The flow of the posterior needs another
vector, the exact likelihood score :math:`h = \nabla_x \log p(y | x_t)`. The gradients are therefore measured against
both, at the middle of each third of time, where the exact posterior sampler comes by:
:math:`x_t = \alpha X_1 + \sigma X_0` with :math:`X_1 \sim p(x_1 | y)`. As a sampler tunes its step size, the error is
that at the best scale of each state,

.. math:: \min_{c \ge 0} |c g - g^*| / |g^*| = \sin \angle(g, g^*), \quad\text{and 1 beyond a right angle}.

The outcome is the energy distance to the exact posterior of what the ODE of the posterior draws where the rung stands
in for the score, at all times or in one third of them with the exact score elsewhere: -g times the best of some scales,
by measurements that are not reported ("tuned"), or with the length of the exact score ("matched"), so that directions
alone differ. PiGDM and TMPD, off the dial, aim at the score; "ideal" has errors alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional

from analysis import errors, intervals, reference, sample_distances
from analysis.experiment import Cell
from analysis.gradients import ESTIMATORS
from analysis.guidance import SAMPLERS, Sample
from analysis.guidance.ladder import rule_of
from analysis.guidance.likelihood import Score
from analysis.operators import OPERATORS
from analysis.paths import PATHS
from analysis.settings import Options, Variant
from toy_models.experiments import outcome
from toy_models.experiments.outcome import NOISE, RUNGS, STEPS, Split
from toy_models.experiments.outcome_windows import WINDOWS, none, windowed
from toy_models.mixtures.gaussian import MixtureFlow
from toy_models.problems.zoo import build

WHOLE = (0.0, 1.0)
ASIDE = {name: Variant.of(name) for name in ("pigdm", "tmpd")}
ESTIMATED = RUNGS | ASIDE
TRUTHS, KINDS = ("ideal", "score"), ("tuned", "matched")
SCALES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
MEASUREMENTS = 64
TOLERANCE = 1e-11  # of the reference: enough for a bound of 1e-6, at half the cost of the default
FULL = {"rungs": tuple(ESTIMATED), "scales": SCALES, "windows": WINDOWS, "tolerance": TOLERANCE}
QUICK = {"rungs": ("greedy", "two_step_euler", "midpoint"), "scales": (0.03,), "tolerance": 1e-10}
QUICK |= {"windows": WINDOWS[::2], "replaced": WINDOWS[:1]}
PLACE = ["operator", "noise", "rung", "start", "end"]


def cells(options: Options) -> list[Cell]:
    """Return a cell per operator; those that ``outcome`` reports have windows of time."""
    others = [name for name in OPERATORS if name not in outcome.OPERATORS]
    found = []
    for name in outcome.OPERATORS[:1] if options.quick else (*outcome.OPERATORS, *others):
        cell = outcome.cell(options, name, NOISE, "oracle_ode")
        cell = cell if options.quick else replace(cell, samples=MEASUREMENTS)
        extra = QUICK if options.quick else FULL | {"replaced": WINDOWS if name in outcome.OPERATORS else ()}
        found.append(replace(cell, measure=f"{__name__}:measure", settings=(), extra=(*cell.extra, *extra.items())))
    return found


@dataclass(frozen=True)
class Guided:
    """A flow with the measurements on which scales are chosen and those that are reported."""

    flow: MixtureFlow
    tuning: Split
    reported: Split
    scales: tuple[float, ...]

    def solved(self, split: Split, rung: str, window: tuple[float, float], scale: float | None) -> Sample:
        """Return the samples of a rung in a window of time, with the exact score elsewhere."""
        loss, exact = split.measured.loss(split.members), split.measured.score(split.members)
        score = windowed(stand_in(self.flow, split, rung, scale), exact, window)
        return SAMPLERS["oracle_ode"](self.flow, loss, split.x0, score=score, steps=STEPS)

    def tuned(self, rung: str, window: tuple[float, float]) -> float:
        """Return the scale of the least mean energy distance on the tuning split."""
        if len(self.scales) == 1:
            return self.scales[0]
        found = [float(self.tuning.distances(self.solved(self.tuning, rung, window, s))[0]) for s in self.scales]
        return self.scales[int(np.argmin(np.nan_to_num(found, nan=math.inf)))]

    def outcomes(self, rung: str, window: tuple[float, float]) -> Iterator[dict[str, Any]]:
        """Yield the energy distances (Y,) of a rung in a window, of each kind."""
        for kind in KINDS:
            scale = self.tuned(rung, window) if kind == "tuned" else None
            found = self.solved(self.reported, rung, window, scale)
            values = sample_distances.energy_distance(self.reported.sets(found.x), self.reported.exact)
            failed = int(found.failed.sum())
            yield {"quantity": kind, "scale": scale, "failed_samples": failed, "value": values}


def stand_in(flow: MixtureFlow, split: Split, rung: str, scale: float | None) -> Score:
    """Return minus the rung's gradient times a scale or, without one, with the length of the exact score.

    It is 0 in the first step: at alpha = 0 the score vanishes, and the gradient of a lookahead does not.
    """
    rule, options = rule_of(ESTIMATED[rung])
    loss, exact = split.measured.loss(split.members), split.measured.score(split.members)

    def score(x: Tensor, t: Tensor) -> Tensor:
        if float(t) < 0.5 / STEPS:
            return none(x, t)
        g = rule(flow, loss, x, t, **options)[0]
        if scale is not None:
            return -scale * g
        return -functional.normalize(g) * torch.linalg.vector_norm(exact(x, t), dim=1, keepdim=True)

    return score


def scaled_error(g: Tensor, truth: Tensor) -> Tensor:
    """Return min over c >= 0 of |c g - truth| / |truth| per sample, (B,): the sine of the angle, or 1 beyond 90°."""
    gap = errors.one_minus_cosine(g, truth)
    return torch.where(gap < 1, (gap * (2 - gap)).clamp_min(0).sqrt(), torch.where(gap.isnan(), gap, 1.0))


def gradients_at(guided: Guided, rungs: Sequence[str], times: Sequence[float], tolerance: float) -> dict[str, Tensor]:
    """Return the gradients (Y * T, d) of rungs, "ideal" and "score", at an exact state of each measurement per time."""
    flow, split, n = guided.flow, guided.reported, len(times)
    t = torch.tensor(times, dtype=torch.float64).repeat(len(split.exact))
    noise = split.x0.unflatten(0, (-1, split.members))
    x1, x0 = (v[:, 0].repeat_interleave(n, 0) for v in (split.independent, noise))
    x, loss = flow.path.alpha(t)[:, None] * x1 + flow.path.sigma(t)[:, None] * x0, split.measured.loss(n)
    ideal = reference.ideal_gradient(flow, loss, x, t, tolerance=tolerance, max_error=math.inf)
    ideal.gradient[~(ideal.error_bound <= reference.MAX_ERROR)] = math.nan  # fails, and is counted
    settings = {rung: ESTIMATED[rung] for rung in rungs}
    found = {r: ESTIMATORS[s.estimator](flow, loss, x, t, **dict(s.options)).gradient for r, s in settings.items()}
    return found | {"ideal": ideal.gradient, "score": -split.measured.score(n)(x, t)}


def compared(gradients: dict[str, Tensor]) -> Iterator[dict[str, Any]]:
    """Yield scaled errors and ratios of lengths (B,) of all gradients but the score, against both truths."""
    for rung, g in gradients.items():
        for truth in TRUTHS if rung != "score" else ():
            yield {"rung": rung, "quantity": f"{truth}_error", "value": scaled_error(g, gradients[truth])}
            yield {"rung": rung, "quantity": f"{truth}_length", "value": errors.norm_ratio(g, gradients[truth])}


def measure(cell: Cell) -> pd.DataFrame:
    """Return one row per rung, window of time, quantity and measurement."""
    flow, extra, generator = build(cell.problem, PATHS[cell.path]()), dict(cell.extra), cell.generator()
    assert isinstance(flow, MixtureFlow)
    tuning, reported = (Split.draw(flow, cell, n, generator) for n in (extra["held_out"], cell.samples))
    row = {"problem": cell.problem, "path": cell.path, "operator": extra["operator"], "noise": extra["noise"]}
    row |= {"dtype": "float64", "seed": cell.seed, "scale": math.nan, "failed_samples": 0}
    found = _found(Guided(flow, tuning, reported, extra["scales"]), extra)
    return pd.concat([pd.DataFrame(row | part) for part in found]).reset_index(names="measurement")


def _found(guided: Guided, extra: dict[str, Any]) -> Iterator[dict[str, Any]]:
    windows, times = extra["windows"], [(start + end) / 2 for start, end in extra["windows"]]
    for found in compared(gradients_at(guided, extra["rungs"], times, extra["tolerance"])):
        by_time = found["value"].unflatten(0, (-1, len(windows))).unbind(1)
        for (start, end), values in zip(windows, by_time, strict=True):
            yield found | {"start": start, "end": end, "value": values}
    for start, end in (WHOLE, *extra["replaced"]):
        for rung in extra["rungs"]:
            yield from ({"start": start, "end": end, "rung": rung} | row for row in guided.outcomes(rung, (start, end)))


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return means with intervals, outcomes less greedy's in pairs, and rank correlations of error and outcome."""
    table = pd.concat([table, over_time(table)], ignore_index=True)
    return {"summary": summary(pd.concat([table, over_operators(table)])), "correlation": correlation(table)}


def over_time(table: pd.DataFrame) -> pd.DataFrame:
    """Return the errors' means over the windows, as rows of the whole of time."""
    rows = table[table["quantity"].str.endswith("_error")]
    keys = ["operator", "noise", "rung", "quantity", "measurement"]
    means = rows.set_index([*keys, "start"])["value"].unstack().mean(axis=1, skipna=False)
    return means.rename("value").reset_index().assign(start=WHOLE[0], end=WHOLE[1], failed_samples=0)


def over_operators(table: pd.DataFrame) -> pd.DataFrame:
    """Return means over the operators that have a quantity, as rows of an operator "all"."""
    found = []
    for key, rows in table.groupby([*PLACE[1:], "quantity"], sort=False):
        means = rows.pivot(index="measurement", columns="operator", values="value").mean(axis=1, skipna=False)
        place = dict(zip([*PLACE[1:], "quantity"], key, strict=True), operator="all")
        failed = rows.drop_duplicates("operator")["failed_samples"].sum()
        found.append(means.rename("value").reset_index().assign(**place, failed_samples=failed))
    return pd.concat(found)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return means over measurements with intervals, and differences from greedy in pairs ("over_greedy...")."""
    values = table.set_index([*PLACE, "quantity", "measurement"])["value"].sort_index()
    found = []
    for key, rows in table.groupby([*PLACE, "quantity"], sort=False):
        row = dict(zip([*PLACE, "quantity"], key, strict=True)) | rows.iloc[0][["scale", "failed_samples"]].to_dict()
        row |= asdict(intervals.interval(rows["value"].to_numpy()))
        greedy = values.loc[(*key[:2], "greedy", *key[3:])].to_numpy()
        more = asdict(intervals.paired_interval(values.loc[key].to_numpy(), greedy))
        found.append(row | {f"over_greedy_{name}": more[name] for name in ("mean", "low", "high")})
    return pd.DataFrame(found)


def correlation(table: pd.DataFrame) -> pd.DataFrame:
    """Return Spearman's correlation over the dial's rungs of each error with each outcome, by window and operator.

    Its interval is from the bootstrap over measurements, errors and outcomes together; operator "all" is the mean.
    """
    found = []
    for (start, end), rows in table[table["rung"].isin(RUNGS)].groupby(["start", "end"]):
        for truth, kind in itertools.product(TRUTHS, KINDS):
            place = {"start": start, "end": end, "truth": truth, "kind": kind}
            found += [place | row for row in _ranked(rows, f"{truth}_error", kind)]
    return pd.DataFrame(found)


def _ranked(rows: pd.DataFrame, error: str, kind: str) -> Iterator[dict[str, Any]]:
    """Yield a row per operator that has the outcome, and one for their mean."""
    pairs = {name: _pair(part, error, kind) for name, part in rows.groupby("operator", sort=False)}
    kept = {name: pair for name, pair in pairs.items() if min(values.size for values in pair)}
    drawn = {name: resampled(*pair, seed=i) for i, (name, pair) in enumerate(kept.items())}
    for name, values in (drawn | {"all": np.mean(list(drawn.values()), axis=0)} if drawn else {}).items():
        low, high = np.quantile(values[1:], [0.025, 0.975])
        yield {"operator": name, "value": values[0], "low": low, "high": high}


def _pair(rows: pd.DataFrame, error: str, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return errors and outcomes (Y, rungs) of the measurements on which no rung failed."""
    rows = rows[rows["quantity"].isin([error, kind])]
    wide = rows.pivot(index="measurement", columns=["quantity", "rung"], values="value").sort_index(axis=1)
    kept = wide[np.isfinite(wide).all(axis=1)]
    return tuple(kept.loc[:, kept.columns.get_level_values(0) == name].to_numpy() for name in (error, kind))


def resampled(error: np.ndarray, outcome: np.ndarray, seed: int) -> np.ndarray:
    """Return Spearman's correlation, 0 for ties, of means of (Y, rungs), (1 + resamples,): as measured comes first."""
    y = len(error)
    counts = np.random.default_rng(seed).multinomial(y, np.full(y, 1 / y), intervals.RESAMPLES)
    weights = np.vstack([np.ones(y), counts]) / y
    ranks = [stats.rankdata(weights @ values, axis=1) for values in (error, outcome)]
    a, b = (r - r.mean(1, keepdims=True) for r in ranks)
    size = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.divide((a * b).sum(1), size, out=np.zeros(len(size)), where=size > 0)
