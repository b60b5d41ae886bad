"""Gradients of mixtures on a device, in float64 and float32, beside the time of their matrix products at full speed.

The workloads are those of ``toy_models.bench``: a lookahead surface and one end-to-end gradient, at the sizes of the
bench and at one that fills a GPU. The floor is the number of operations of a workload's matrix products over the rate
of one large product of that dtype, measured on the same device in the same run (float32 is true float32, without
TF32). A second floor takes the products in the workload's own shapes. Beside every time stands the largest difference
from the gradient that the CPU computes in float64, at some of the states, since those are independent.

``python reproduce.py run gpu_bench --device cuda`` makes the table, in less than a minute.
"""

from __future__ import annotations

import functools
import itertools
import math
import statistics
import time
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from analysis.experiment import Cell
from analysis.losses import HalfSquaredDistance
from analysis.settings import DTYPES, Options
from analysis.tables import only
from toy_models.bench.contenders import CONTENDERS, LARGE, LARGE_STEPS, SIZES, STEPS, T, Work, work
from toy_models.bench.measure import agreement, matrix_products, timed

SERIAL = True
WORKLOADS, PRECISIONS = ("surface", "end_to_end"), ("float64", "float32")
COMPARED = 64  # states at which the CPU computes the gradient again
SPEC = {
    "quick": {"sizes": SIZES[:2], "steps": 4, "repetitions": 3, "product": 256},
    "full": {"sizes": (*SIZES, (16384, 64, 64)), "steps": STEPS[-1], "repetitions": 5, "product": 4096},
}


def cells(options: Options) -> list[Cell]:
    """Return one cell per size, workload and dtype, whatever the dtype asked for; quick has small ones."""
    product = itertools.product(options.of(SPEC)["sizes"], WORKLOADS, PRECISIONS)
    return [_cell(options, *point) for point in product]


def _cell(options: Options, size: tuple[int, ...], workload: str, dtype: str) -> Cell:
    spec = options.of(SPEC)
    large = workload == "surface" and math.prod(size) >= LARGE
    extra = {"workload": workload, "size": size, "steps_max": min(spec["steps"], LARGE_STEPS if large else STEPS[-1])}
    extra |= {"repetitions": spec["repetitions"], "product": spec["product"]}
    return Cell(
        measure=f"{__name__}:measure",
        problem="x".join(map(str, size)),
        path="condot",
        times=(T,),
        samples=size[0],
        seed=options.seed,
        dtype=dtype,
        device=options.device,
        extra=tuple(extra.items()),
    )


def measure(cell: Cell) -> pd.DataFrame:
    """Return one row: the times of a workload, its two floors, and its agreement with the CPU."""
    extra, job = cell.extra_dict, work(cell)
    row = cell.columns() | {"workload": extra["workload"], "status": "ok", "t": T, "solver": job.solver}
    row |= dict(zip("BdK", extra["size"], strict=True)) | {"steps_max": extra["steps_max"]}
    row |= {"cells": len(job.steps) * len(job.horizons), "operations": job.operations}
    row |= _times(job, extra["workload"], extra["repetitions"])
    row |= _floors(job, row["seconds"], rate(cell.dtype, cell.device, extra["product"]), extra["repetitions"])
    truth = expected(replace(cell, dtype="float64", device="cpu"))
    found = CONTENDERS[extra["workload"]]["ours"](job)()
    row |= {"compared": len(truth[0]), "agreement": agreement([g[: len(truth[0])].double() for g in found], truth)}
    return pd.DataFrame([row])


def _times(job: Work, workload: str, repetitions: int) -> dict[str, Any]:
    """Return the median, least and largest seconds of a workload's runs, after a first one."""
    run = CONTENDERS[workload]["ours"](job)
    first, *seconds = [timed(run, job) for _ in range(1 + repetitions)]
    row = {"seconds": statistics.median(seconds), "seconds_min": min(seconds), "seconds_max": max(seconds)}
    return row | {"first_seconds": first, "repetitions": repetitions}


def _floors(job: Work, seconds: float, rate: float, repetitions: int) -> dict[str, float]:
    """Return the seconds of the matrix products at a large product's rate and in their own shapes, and both ratios."""
    run, scale = matrix_products(job)
    own = scale * statistics.median(timed(run, job) for _ in range(repetitions))
    floor = job.operations / rate
    row = {"rate": rate, "floor_seconds": floor, "ratio": seconds / floor}
    return row | {"products_seconds": own, "products_ratio": seconds / own}


@functools.lru_cache(maxsize=len(PRECISIONS))
def rate(dtype: str, device: str, n: int, repetitions: int = 5) -> float:
    """Return the operations per second of a product of two n x n matrices on a device, by the median of some runs."""
    a, b = torch.randn(2, n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(
        device, DTYPES[dtype]
    )
    out = torch.empty_like(a)
    torch.mm(a, b, out=out)

    def once() -> float:
        _wait(out)
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        _wait(out)
        return time.perf_counter() - start

    return 2.0 * n**3 / statistics.median(once() for _ in range(repetitions))


def _wait(x: Tensor) -> None:
    """Wait until a GPU has done all that was asked of it."""
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)


@functools.lru_cache(maxsize=1)
def expected(cell: Cell) -> list[Tensor]:
    """Return the gradients (COMPARED or fewer, d) of the first states of a cell; successive dtypes share them."""
    job, n = work(cell), min(COMPARED, cell.samples)
    some = replace(job, x=job.x[:n], loss=HalfSquaredDistance(job.loss.target[:n]))
    return CONTENDERS[cell.extra_dict["workload"]]["ours"](some)()


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Give the rates of large products, the times over the floor at the largest size, and the worst agreement."""
    largest = table.loc[table["operations"].idxmax(), "problem"]
    row: dict[str, Any] = {"device": table["device"].iloc[0], "problem": largest}
    for dtype in PRECISIONS:
        rows = only(table, dtype=dtype)
        row |= {f"{dtype}_rate": rows["rate"].max() / 1e12, f"{dtype}_agreement": rows["agreement"].max()}
        for workload in WORKLOADS:
            (one,) = only(rows, workload=workload, problem=largest).to_dict("records")
            row |= {f"{dtype}_{workload}_ms": 1000 * one["seconds"], f"{dtype}_{workload}": one["ratio"]}
    return {"facts": pd.DataFrame([row])}
