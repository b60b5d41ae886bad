"""Seconds, peak bytes and error of gradients on a device, by arithmetic.

The three estimators, with all strategies of ``analysis.solvers.checkpointing`` for end-to-end, run on the learned flow
of the digits in batches from 1 to 512. Rows of kind ``cost`` hold seconds and bytes of a batch. Rows of kind
``precision`` hold the distance from the float64 gradient of the same discrete map, at a few states whose coordinates
are float32 numbers, so that the error is that of the arithmetic alone. A cell that runs out of memory, a reversible
solve that fails to return, and a compiler that fails give rows whose status says so.

``python reproduce.py run gpu_cost --device cuda`` makes the table, one cell after the other, and resumes where it was
stopped. On the CPU the same cells run except TF32, which CPUs lack.
"""

from __future__ import annotations

import contextlib
import functools
import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from analysis import cost as costs
from analysis import errors
from analysis.batching import is_out_of_memory
from analysis.experiment import Cell, horizon_of
from analysis.gradients import ESTIMATORS
from analysis.losses import Loss
from analysis.settings import DTYPES, Options, Variant, resolve
from analysis.solvers.checkpointing import STRATEGIES
from analysis.subject import Subject
from analysis.tables import only
from real_models.arithmetic import Arithmetic

SERIAL = True
FACTORY, PROBLEM = "real_models.images:subject", "mnist_unet"
BATCHES = tuple(2**k for k in range(10))
T, STEPS, REPETITIONS, PRECISION_SAMPLES = 0.3, 16, 5, 8
ARITHMETICS = {
    "float32": Arithmetic(),
    "tf32": Arithmetic(tf32=True),
    "bfloat16": Arithmetic(bfloat16=True),
    "channels_last": Arithmetic(channels_last=True),
    "compile": Arithmetic(compile="inductor"),
    "all": Arithmetic(channels_last=True, tf32=True, bfloat16=True, compile="inductor"),
}


def variants(steps: int) -> list[Variant]:
    """Return greedy, lookahead with a quarter of the steps, and end-to-end with every checkpointing strategy."""
    few = max(1, steps // 4)
    variants = [Variant.of("greedy"), Variant.of("lookahead", solver="midpoint", steps=few, horizon_fraction=0.8)]
    for strategy in STRATEGIES:
        slots = {"slots": few} if strategy == "recursive" else {}
        variants.append(Variant.of("end_to_end", solver="midpoint", steps=steps, memory=strategy, **slots))
    return variants


def arithmetics(options: Options) -> list[str]:
    """Return the names of the arithmetics that the device has; a quick run leaves out those that need a compiler."""
    absent = {"tf32"} if not options.device.startswith("cuda") else set()
    return [n for n, s in ARITHMETICS.items() if n not in absent and not (options.quick and s.compile)]


def cells(options: Options, factory: str = FACTORY, batches: Sequence[int] = BATCHES) -> list[Cell]:
    """Return one cell per arithmetic, variant and batch; quick has two steps and batches to 8."""
    quick = options.quick
    sizes = {"precision": (PRECISION_SAMPLES,), "cost": tuple(n for n in batches if not quick or n <= 8)}
    return [
        Cell(
            measure=f"{__name__}:{kind}",
            factory=factory,
            problem=PROBLEM,
            path="condot",
            times=(T,),
            samples=samples,
            variants=(variant,),
            seed=options.seed,
            dtype="float32",
            device=options.device,
            extra=(("arithmetic", name), ("repetitions", 3 if quick else REPETITIONS)),
        )
        for name in arithmetics(options)
        for kind, counts in sizes.items()
        for variant in variants(2 if quick else STEPS)
        for samples in counts
    ]


def cost(cell: Cell) -> pd.DataFrame:
    """Return one row: seconds, bytes and evaluations of one variant on one batch."""
    return _table(cell, "cost", _spent)


def precision(cell: Cell) -> pd.DataFrame:
    """Return one row: the relative error of one variant against the same map in float64."""
    return _table(cell, "precision", _error)


def _table(cell: Cell, kind: str, measure: Any) -> pd.DataFrame:
    row = _named(cell) | {"kind": kind, "status": "ok"}
    try:
        row |= measure(cell)
    except (ValueError, RuntimeError, MemoryError) as error:
        row["status"] = _status(cell, error)
    if row["status"] != "ok" and cell.device.startswith("cuda"):
        torch.cuda.empty_cache()
    return pd.DataFrame([row])


def _status(cell: Cell, error: Exception) -> str:
    """Return the status of a row whose error is itself a result; raise any other error."""
    if is_out_of_memory(error):
        return "out of memory"
    if isinstance(error, ValueError) or _arithmetic(cell).compile:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    raise error


def _named(cell: Cell) -> dict[str, Any]:
    options = dict(cell.variants[0].options)
    named = cell.columns() | {"truth": "float64 gradient of the same map"}
    named |= {"estimator": cell.variants[0].estimator, "solver": options.pop("solver", None)}
    named |= {"steps": options.pop("steps", None), "fraction": (fraction := options.pop("horizon_fraction", None))}
    named["horizon"] = None if fraction is None else horizon_of(T, fraction)
    named |= {"memory": options.get("memory"), "options": json.dumps(options, sort_keys=True), "t": T}
    named |= {"arithmetic": cell.extra_dict["arithmetic"], "batch": cell.samples}
    return named | {"threads": torch.get_num_threads()}


def _arithmetic(cell: Cell) -> Arithmetic:
    return ARITHMETICS[cell.extra_dict["arithmetic"]]


@functools.lru_cache(maxsize=1)
def _loaded(factory: str, problem: str, path: str, dtype: str, device: str, arithmetic: Arithmetic) -> Subject:
    """Return the subject with its network under the arithmetic; cached, as successive cells share one compilation."""
    torch.compiler.reset()
    subject = resolve(factory)(problem, path, dtype, device)
    return replace(subject, flow=arithmetic.flow(subject.flow))


def _subject(cell: Cell) -> Subject:
    return _loaded(cell.factory, cell.problem, cell.path, cell.dtype, cell.device, _arithmetic(cell))


def _states(cell: Cell, subject: Subject) -> tuple[Tensor, Loss]:
    """Return states (B, *event) in the cell's dtype, on the CPU, and a loss."""
    generator = cell.generator()
    x = subject.states(torch.tensor(cell.times, dtype=torch.float64), cell.samples, generator)
    return x.to(DTYPES[cell.dtype]), subject.loss(1, cell.samples, generator)


def _spent(cell: Cell) -> dict[str, Any]:
    """Return the median time of some gradients after a warm-up; on the CPU the warm-up counts the bytes."""
    subject, arithmetic, variant = _subject(cell), _arithmetic(cell), cell.variants[0]
    x, loss = _states(cell, subject)
    x = x.to(cell.device)

    def spend() -> costs.Cost:
        return ESTIMATORS[variant.estimator](subject.flow, loss, x, T, **dict(variant.options)).cost

    with arithmetic.active():
        # A compiled network would be compiled for the tracker of allocations, which it never meets again.
        with contextlib.nullcontext() if arithmetic.compile else costs.track_memory():
            first = spend()
        again = [spend() for _ in range(cell.extra_dict["repetitions"])]
    seconds, last = [c.seconds for c in again], again[-1]
    row = {"seconds": statistics.median(seconds), "seconds_min": min(seconds), "seconds_max": max(seconds)}
    row |= {"first_seconds": first.seconds, "repetitions": len(again)}
    row |= {"evaluations": last.evaluations, "vjps": last.vjps}
    return row | {"bytes": first.bytes if last.bytes is None else last.bytes}


@functools.lru_cache(maxsize=len(variants(STEPS)))
def _truth(cell: Cell) -> Tensor:
    """Return the float64 gradient (B, *event), on the CPU, for the cell's variant."""
    subject, variant = resolve(cell.factory)(cell.problem, cell.path, cell.dtype, "cpu"), cell.variants[0]
    x, loss = _states(cell, subject)
    return ESTIMATORS[variant.estimator](subject.reference_flow, loss, x.double(), T, **dict(variant.options)).gradient


def _error(cell: Cell) -> dict[str, Any]:
    subject, variant = _subject(cell), cell.variants[0]
    x, loss = _states(cell, subject)
    truth = _truth(replace(cell, device="cpu", extra=()))
    with _arithmetic(cell).active():
        estimate = ESTIMATORS[variant.estimator](subject.flow, loss, x.to(cell.device), T, **dict(variant.options))
    summary = errors.summary(errors.relative_error(estimate.gradient.double().cpu(), truth))
    status = "some samples are not finite" if summary["failed"] else "ok"
    return {"metric": "relative_error", "status": status} | summary


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Give times at the largest batch that all float32 gradients finished, the fastest arithmetic, the least memory."""
    cost, precision = (only(table, kind=kind, status="ok") for kind in ("cost", "precision"))
    stored = cost[(cost["estimator"] != "end_to_end") | (cost["memory"] == "store")]
    batch = int(stored.groupby(["estimator", "arithmetic"])["batch"].max().min())
    here = only(stored, batch=batch)
    plain = only(here, arithmetic="float32").set_index("estimator")
    seconds = plain["seconds"] / batch
    whole = only(table, kind="cost")
    row: dict[str, Any] = {"device": whole["device"].iloc[0], "batch": batch, "cells": len(whole)}
    row |= {f"{name}_ms": 1000 * value for name, value in seconds.items()}
    row["steps"] = int(plain.loc["end_to_end", "steps"])
    if full := int((whole["status"] == "out of memory").sum()):
        row["full"] = full
    fast = only(here, estimator="end_to_end").sort_values("seconds").iloc[0]
    error = only(precision, estimator="end_to_end", memory="store", arithmetic=fast["arithmetic"])
    if fast["arithmetic"] != "float32" and len(error):
        row |= {"fast": fast["arithmetic"], "fast_error": error["value"].iloc[0]}
        row["fast_ratio"] = seconds["end_to_end"] * batch / fast["seconds"]
    strategies = only(cost, estimator="end_to_end", arithmetic="float32", batch=batch)
    strategies = strategies[(strategies["memory"] != "store") & strategies["bytes"].notna()].sort_values("bytes")
    if len(strategies):
        row |= {
            "small": strategies["memory"].iloc[0],
            "small_ratio": strategies["bytes"].iloc[0] / plain.loc["end_to_end", "bytes"],
        }
    return {"facts": pd.DataFrame([row])}
