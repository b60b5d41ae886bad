"""The bench: lookahead gradients by this package, torchdiffeq and diffrax on one mixture, with times and agreement.

There are three workloads. ``surface``: 63 cells of (steps, horizon), Euler; ``end_to_end``: one gradient, RK4;
``estimators``: every registered estimator in the first variant that it declares, against greedy. The torch peers
differentiate a plain torch function of the mixture's velocity by autograd, the jax peers the same formulas in
jax.numpy. Repetitions of a contender alternate with ours, so that a ratio compares neighbours in time and each cell can
be measured, and resumed, alone. The floor is the time of the workload's matrix products alone: their number of
operations over the rate at which torch computes products of these shapes. Where products are small, that rate is one
of calls; the second floor is the number of operations over the rate of a fused loop: of a long solve in one call of the
compiled code, exponentials and all. ``samples``, ``steps`` and ``components`` scale one size of one end-to-end
gradient.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis import gradients, solvers
from analysis.experiment import Cell
from analysis.settings import Variant
from toy_models.bench.contenders import CONTENDERS, THREE_EIGHTHS, Runner, T, Work, work
from toy_models.mixtures import compiled_solve

LONG = 512  # steps of a solve in which setting up does not count
NOTES = {
    "ours": "ours against itself: the noise of a ratio",
    "torchdiffeq_adjoint": "optimise-then-discretise: another gradient, so that it differs",
    "diffrax_backsolve": "optimise-then-discretise: another gradient, so that it differs",
    "diffrax_stored": "recursive checkpointing with as many checkpoints as steps",
    "floor": "matrix products alone, at the rate measured here",
    "floor_loop": "the same work at the rate of the compiled loop in one long solve",
    "ours_torch": "without numba",
}


def matrix_products(job: Work) -> tuple[Runner, float]:
    """Return a run of some products, in the faster of two batch shapes, and the number of such runs in the workload."""
    k, d = job.flow.basis.means.shape
    into = job.flow.basis.into.contiguous()
    ahead = max(1, sum(s > T for s in job.horizons))
    runs: list[tuple[float, Runner, float]] = []
    for blocks in {1, ahead}:
        x = job.x.repeat(blocks, 1)
        wide, narrow = x.new_empty(len(x), k * d), torch.empty_like(x)
        times = min(200, max(1, int(2e8 / (8 * len(x) * d * k * d))))  # enough to be timed well

        def run(x: Tensor = x, wide: Tensor = wide, narrow: Tensor = narrow, times: int = times) -> list[Any]:
            for _ in range(2 * times):
                torch.mm(x, into, out=wide)
                torch.mm(wide, into.T, out=narrow)
            return []

        scale = job.pairs / (times * blocks)
        run()
        runs.append((timed(run, job) * scale, run, scale))
    return min(runs, key=lambda timed_run: timed_run[0])[1:]


def long_solve(job: Work) -> tuple[Runner, float]:
    """Return a run of one long solve by compiled loops, and how many times its evaluations the workload takes.

    Returns
    -------
    tuple
        The run, and how many of it have as many evaluations as the workload.

    Raises
    ------
    ValueError
        Where no compiled loop serves this problem, as without numba.
    """
    grid = torch.linspace(T, 1.0, LONG + 1, dtype=torch.float64)
    plan = solvers.plan("euler", job.flow.path, grid)
    x = job.x[None]
    if compiled_solve.solve_vjp(job.flow.basis, job.flow.path, x, [plan]) is None:
        raise ValueError("no compiled loop serves this problem here")

    def run() -> list[Any]:
        solved = compiled_solve.solve_vjp(job.flow.basis, job.flow.path, x, [plan])
        assert solved is not None
        return [solved[1](x)]

    return run, job.pairs / LONG


FLOORS = {"floor": matrix_products, "floor_loop": long_solve}


def timed(run: Runner, job: Work) -> float:
    """Return the seconds of one run, including the device's work."""
    cuda = job.x.device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(job.x.device)
    start = time.perf_counter()
    run()
    if cuda:
        torch.cuda.synchronize(job.x.device)
    return time.perf_counter() - start


def agreement(gradients: Sequence[Any], expected: Sequence[Tensor]) -> float:
    """Return the largest difference between gradients of a cell, relative to the largest entry of the expected one."""
    pairs = zip(gradients, expected, strict=True)
    here = [(f.cpu() if isinstance(f, Tensor) else torch.from_numpy(np.array(f)), e.cpu()) for f, e in pairs]
    return max(float((f - e).abs().max() / e.abs().max()) for f, e in here)


def expected_gradients(job: Work, contender: str, baseline: Runner) -> list[Tensor]:
    """Return our gradients; for torchdiffeq's "rk4", which is the 3/8 rule, those by that rule."""
    if job.solver != "rk4" or not contender.startswith("torchdiffeq"):
        return baseline()
    grid = torch.linspace(T, 1.0, job.steps[0] + 1, dtype=torch.float64, device=job.x.device)
    stages = solvers.runge_kutta(THREE_EIGHTHS, "t").coefficients(job.flow.path, grid)
    end, pull = solvers.solve_vjp(job.flow, job.x, stages)
    return [pull(end - job.loss.target)]


def estimator(job: Work, variant: Variant) -> Runner:
    """Return the run of a registered estimator."""
    call, options = gradients.ESTIMATORS[variant.estimator], dict(variant.options)
    return lambda: [call(job.flow, job.loss, job.x, T, **options).gradient]


def measure(cell: Cell) -> pd.DataFrame:
    """Time a contender against ours in turn; return one row."""
    extra = cell.extra_dict
    torch.set_num_threads(extra["threads"])
    os.environ.setdefault("NPROC", str(extra["threads"]))  # what jax reads when it starts
    job, name, kind = work(cell), extra["contender"], extra["workload"]
    baseline = estimator(job, Variant.of("greedy")) if kind == "estimators" else CONTENDERS[kind]["ours"](job)
    row = cell.columns() | {"workload": kind, "contender": name} | dict(zip("BdK", extra["size"], strict=True))
    row |= {"solver": job.solver, "t": T, "steps_max": extra["steps_max"], "note": NOTES.get(name), "status": "ok"}
    row |= {"cells": len(job.steps) * len(job.horizons), "threads": extra["threads"]}
    if kind == "estimators":
        options = dict(cell.variants[0].options)
        row |= {"solver": options.get("solver"), "steps_max": options.get("steps")}
        row["note"] = ", ".join(f"{key}={value}" for key, value in options.items()) or None
    try:
        row |= _times(job, name, kind, cell, baseline, extra["repetitions"])
    except (ValueError, TypeError) as error:
        if kind != "estimators" and name != "floor_loop":
            raise
        row |= {"status": str(error)}  # such as an estimator that needs another loss
    return pd.DataFrame([row])


def _runner(job: Work, name: str, kind: str, cell: Cell) -> Runner:
    return estimator(job, cell.variants[0]) if kind == "estimators" else CONTENDERS[kind][name](job)


def _times(job: Work, name: str, kind: str, cell: Cell, baseline: Runner, least: int) -> dict[str, Any]:
    row: dict[str, Any] = {"agreement": math.nan, "compile_seconds": math.nan, "rate": math.nan}
    run, scale = FLOORS[name](job) if name in FLOORS else (_runner(job, name, kind, cell), 1.0)
    start = time.perf_counter()
    result = run()
    first = time.perf_counter() - start
    start = time.perf_counter()
    if name not in FLOORS and kind != "estimators":
        row["agreement"] = agreement(result, expected_gradients(job, name, baseline))
    else:
        baseline()
    once = time.perf_counter() - start
    if once < 0.1:
        once += timed(run, job)  # the first run may have compiled
    count = least if once > 0.1 else min(10 * least, max(least, int(1 / once)))
    ours, theirs = zip(*((timed(baseline, job), scale * timed(run, job)) for _ in range(count)), strict=True)
    for label, values in (("seconds", theirs), ("ours_seconds", ours)):
        row |= {label: statistics.median(values), f"{label}_min": min(values), f"{label}_max": max(values)}
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    row |= {"ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios)}
    row |= {"repetitions": count, "operations": job.operations if kind != "estimators" else math.nan}
    if name.startswith("diffrax"):
        row["compile_seconds"] = first - row["seconds"]
    if name in FLOORS:
        row["rate"] = job.operations / row["seconds"]
    return row
