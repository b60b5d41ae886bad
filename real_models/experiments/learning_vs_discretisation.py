r"""Sources of the error of a learned guidance gradient: learning, discretisation, arithmetic.

The network learned from samples of the fitted MNIST mixture, whose ideal gradient g* is certified. With g_n the
gradient through n steps of the network in float64, g_inf the converged one and g_low that in low precision,

.. math:: g_{low} - g^* = (g_{low} - g_n) + (g_n - g_\infty) + (g_\infty - g^*):

precision, discretisation and learning, each given relative to |g*|. States X_t follow the mixture's own law, and the
loss is half the squared distance to another of its samples. "bfloat16" means autocast: products of matrices and
convolutions in bfloat16, the rest and the solver's states in float32, as networks are run in practice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis import intervals
from analysis.converged import converged_gradients
from analysis.errors import relative, relative_error
from analysis.experiment import Cell, StateBatch, estimate
from analysis.flow import Flow, PredictionFlow
from analysis.losses import HalfSquaredDistance, Loss
from analysis.paths import PATHS
from analysis.reference import Reference, ideal_gradient
from analysis.settings import Options, Variant, resolve
from analysis.subject import Subject
from analysis.tables import only
from real_models.arithmetic import Arithmetic

SUITE = "images"
FACTORY, PROBLEM, ANALYTIC = "real_models.images:subject", "mixture_unet", "toy_models.problems.mnist:flow"
TIMES, QUICK_TIMES = (0.2, 0.4, 0.6, 0.8), (0.9,)
MOST, QUICK_MOST = {"euler": 32, "midpoint": 16}, {"euler": 2}  # steps; one Euler step on CondOT is greedy
KEYS = ["t", "estimator", "solver", "steps"]
GREEDY = Variant.of("greedy")


def cells(options: Options) -> list[Cell]:
    """Return one cell per time: states that share their time cost the certified reference the least."""
    quick = options.quick
    extra = {"analytic": ANALYTIC, "certified": not quick, "analytic_steps": 6, "steps": 2 if quick else 24}
    cell = Cell(
        measure=f"{__name__}:measure",
        factory=FACTORY,
        problem=PROBLEM,
        path="condot",
        times=(),
        samples=1 if quick else 6,
        variants=tuple(_variants(QUICK_MOST if quick else MOST)),
        seed=options.seed,
        device=options.device,
        extra=tuple(extra.items()),
    )
    return [replace(cell, times=(t,)) for t in (QUICK_TIMES if quick else TIMES)]


def _variants(most: Mapping[str, int]) -> Iterator[Variant]:
    yield GREEDY
    for solver, last in most.items():
        for k in range(int(solver == "euler"), last.bit_length()):
            yield Variant.of("end_to_end", solver=solver, steps=2**k, memory="checkpoint")


def autocast(flow: Flow) -> PredictionFlow:
    """Return a copy of a flow whose network computes its products in bfloat16; states keep their dtype.

    Returns
    -------
    PredictionFlow
        The copy.

    Raises
    ------
    ValueError
        For a flow that is not made from a network.
    """
    if not isinstance(flow, PredictionFlow):
        raise ValueError(
            f"flow must be a PredictionFlow, whose network can be run in bfloat16; got {type(flow).__name__}"
        )
    return Arithmetic(bfloat16=True).flow(flow)


def measure(cell: Cell) -> pd.DataFrame:
    """Return one row per variant, part of the error, and state."""
    subject: Subject = resolve(cell.factory)(cell.problem, cell.path, "float64", cell.device)
    analytic, extra = resolve(cell.extra_dict["analytic"])(PATHS[cell.path]()), cell.extra_dict
    x, loss = _states(analytic, cell)
    truth = _truth(analytic, loss, x, cell)
    (converged,) = converged_gradients(subject.reference_flow, loss, x, cell.times, steps=extra["steps"]).references
    t = torch.full((len(x),), cell.times[0], dtype=torch.float64)
    row = cell.columns() | {"truth": truth.tier, "t": cell.times[0], "zeta": float(analytic.path.zeta(t[0]))}
    bounds = {"truth_bound": truth.error_bound, "reference_bound": converged.error_bound}
    row |= {name: float(bound.max()) for name, bound in bounds.items()} | {"status": "ok"}
    batch = StateBatch(subject, x, t, loss, truth)
    return pd.DataFrame([row | part for part in _rows(cell, batch, analytic, converged.gradient)])


def _states(analytic: Any, cell: Cell) -> tuple[Tensor, HalfSquaredDistance]:
    """Return states (n, d) of the mixture's law at the cell's time, and the loss, with other samples as its targets."""
    generator, t = cell.generator(), torch.tensor(cell.times, dtype=torch.float64)
    clean, target = (analytic.mixture.sample(cell.samples, generator) for _ in range(2))
    noise = torch.randn(clean.shape, dtype=torch.float64, generator=generator)
    return analytic.path.states(t, clean, noise), HalfSquaredDistance(target)


def _truth(analytic: Flow, loss: Loss, x: Tensor, cell: Cell) -> Reference:
    """Return the mixture's ideal gradient: certified, or, for the quick run, from two fixed solves."""
    extra = cell.extra_dict
    if extra["certified"]:
        return ideal_gradient(analytic, loss, x, cell.times[0])
    return converged_gradients(analytic, loss, x, cell.times, steps=extra["analytic_steps"]).references[0]


def _rows(cell: Cell, batch: StateBatch, analytic: Flow, converged: Tensor) -> Iterator[dict[str, Any]]:
    single: Subject = resolve(cell.factory)(cell.problem, cell.path, "float32", cell.device)
    low = {"float32": single, "bfloat16": replace(single, flow=autocast(single.flow))}
    exact = replace(batch, subject=replace(batch.subject, flow=analytic))
    truth = batch.reference.gradient
    for variant in cell.variants:
        here = estimate(cell, batch, variant).gradient.cpu()
        there = estimate(replace(cell, device="cpu"), exact, variant).gradient
        parts = {"learning": converged - truth, "discretisation": here - converged, "total": here - truth}
        parts["discretisation, exact field"] = there - truth
        for name, subject in low.items():
            estimated = estimate(replace(cell, dtype="float32"), replace(batch, subject=subject), variant)
            parts[name] = estimated.gradient.double().cpu() - here
        sizes = {name: relative(part, truth) for name, part in parts.items()}
        sizes["learning, same steps"] = relative_error(here, there)
        for name, values in sizes.items():
            options = dict(variant.options)
            named = {"estimator": variant.estimator, "solver": options.get("solver"), "part": name}
            named |= {"steps": options.get("steps", 0)}
            yield from (named | {"state": i, "value": value} for i, value in enumerate(values.tolist()))


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return geometric means of the parts with intervals over states, and where discretisation drops below learning."""
    columns = ["problem", "truth", "truth_bound", "reference_bound", "zeta"]
    summary = []
    for key, rows in table.groupby([*KEYS, "part"], sort=False, dropna=False):
        place = dict(zip([*KEYS, "part"], key, strict=True)) | rows.iloc[0][columns].to_dict()
        summary.append(place | _geometric(rows["value"]))
    tables = {"summary": pd.DataFrame(summary), "crossings": pd.DataFrame(_crossings(table))}
    return tables | {"facts": facts(**tables)}


def facts(summary: pd.DataFrame, crossings: pd.DataFrame) -> pd.DataFrame:
    """Give learning's part at both ends of time, the steps where discretisation drops below it, and bfloat16's part."""
    learning = only(summary, estimator="greedy", part="learning").sort_values("t").reset_index(drop=True)
    first, last = learning.iloc[0], learning.iloc[-1]
    row: dict[str, Any] = {"states": int(first["measurements"]), "first_t": first["t"], "learning_first": first["mean"]}
    if len(learning) > 1:
        row |= {"last_t": last["t"], "learning_last": last["mean"]}
    below = only(crossings, solver="euler")["below"]
    if below.notna().all() and (below > 0).all():
        row |= {"below_low": below.min(), "below_high": below.max()}
    named = summary.assign(solver=summary["solver"].fillna("none"))  # a missing key would be dropped
    wide = named.pivot_table(index=KEYS, columns="part", values="mean").dropna(subset=["bfloat16", "discretisation"])
    if len(wide):
        row |= {"bfloat16": wide["bfloat16"].median(), "gradients": len(wide)}
        row["outweighs"] = int((wide["bfloat16"] > wide["discretisation"]).sum())
    return pd.DataFrame([row])


def _geometric(values: pd.Series) -> dict[str, Any]:
    """Return the geometric mean with its bootstrap interval; parts that are exactly zero count as failed."""
    logarithmic = asdict(intervals.interval(np.log(values.where(values > 0)).to_numpy()))
    return {name: math.exp(value) if name in ("mean", "low", "high") else value for name, value in logarithmic.items()}


def _crossings(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Find, by time and solver, the fewest steps at which discretisation is below learning, and is so reliably.

    Reliably means that the 95 % interval of the mean log ratio, over states, lies below zero. Step counts of a solver
    begin with greedy's.

    Yields
    ------
    dict
        A row with the time, the solver, and both step counts.
    """
    named = table.assign(solver=table["solver"].fillna("none"))  # greedy, with which every solver begins
    wide = named.pivot_table(index=[*KEYS, "state"], columns="part", values="value").reset_index()
    for t, here in wide.groupby("t"):
        for solver in sorted(set(here["solver"]) - {"none"}):
            ratios = []
            for steps, rows in here[here["solver"].isin([solver, "none"])].groupby("steps"):
                logs = np.log(rows["discretisation"] / rows["learning"])
                ratios.append((int(steps), intervals.interval(logs.to_numpy())))
            below = [n for n, interval in ratios if interval.mean < 0]
            surely = [n for n, interval in ratios if interval.high < 0]
            row: dict[str, Any] = {"t": t, "solver": solver, "most": ratios[-1][0]}
            yield row | {"below": min(below, default=None), "surely_below": min(surely, default=None)}
