"""Seconds, peak bytes and error of gradients on a device, by arithmetic.

The three estimators run on the learned flow of the digits in batches from 1 to 512, with all strategies of
``analysis.solvers.checkpointing`` for end-to-end in float32 and with "store" alone in other arithmetics, on which
memory depends little. Rows of kind ``cost`` hold seconds and bytes of a batch. Rows of kind ``precision`` hold the
distance from the float64 gradient of the same discrete map, computed on the CPU, at a few states whose coordinates are
float32 numbers, so that the error is that of the arithmetic alone. The learned flow of molecules has rows of kind
``cost`` in float32. A cell that runs out of memory, a reversible solve that fails to return, and a compiler that fails
give rows whose status says so.

``python reproduce.py run gpu_cost --device cuda`` makes the table in about a minute, one cell after the other, and
resumes where it was stopped. Small batches wait for the launches of a device, so that a gradient's time grows with its
steps and not with the batch: hence few steps, batches and repetitions. Compiling takes longer than all of this, and is
left out unless ``cells`` is asked for it. On the CPU the same cells run except TF32, which CPUs lack.
"""

from __future__ import annotations

import contextlib
import functools
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
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
IMAGES, MOLECULES = "mnist_unet", "qm9_alpha"
FACTORIES = {IMAGES: "real_models.images:subject", MOLECULES: "real_models.molecules.subject:subject"}
BATCHES, MOST_MOLECULES = (1, 8, 64, 512), 64  # states of larger batches of molecules take the CPU too long
T, STEPS, REPETITIONS, PRECISION_SAMPLES = 0.3, 8, 3, 4
ARITHMETICS = {
    "float32": Arithmetic(),
    "tf32": Arithmetic(tf32=True),
    "bfloat16": Arithmetic(bfloat16=True),
    "channels_last": Arithmetic(channels_last=True),
    "compile": Arithmetic(compile="inductor"),
    "all": Arithmetic(channels_last=True, tf32=True, bfloat16=True, compile="inductor"),
}


def variants(steps: int, strategies: Sequence[str] = STRATEGIES) -> list[Variant]:
    """Return greedy, lookahead with a quarter of the steps, and end-to-end with each checkpointing strategy."""
    few = max(1, steps // 4)
    variants = [Variant.of("greedy"), Variant.of("lookahead", solver="midpoint", steps=few, horizon_fraction=0.8)]
    for strategy in strategies:
        slots = {"slots": few} if strategy == "recursive" else {}
        variants.append(Variant.of("end_to_end", solver="midpoint", steps=steps, memory=strategy, **slots))
    return variants


def arithmetics(options: Options, compiled: bool = False) -> list[str]:
    """Return the names of the arithmetics that the device has; if ``compiled``, those with a compiler come last."""
    absent = {"tf32"} if not options.device.startswith("cuda") else set()
    there = [name for name in ARITHMETICS if name not in absent]
    return [n for n in there if not ARITHMETICS[n].compile] + [n for n in there if ARITHMETICS[n].compile and compiled]


def cells(
    options: Options,
    factories: Mapping[str, str] = FACTORIES,
    batches: Sequence[int] = BATCHES,
    compiled: bool = False,
) -> list[Cell]:
    """Return the cells of the problems in ``factories``, important ones first; quick has two steps, batches to 8."""
    some = [n for n in batches if not options.quick or n <= 8]
    listed = _listed(arithmetics(options, compiled), 2 if options.quick else STEPS, some)
    return [_cell(options, factories[point[0]], *point) for point in listed if point[0] in factories]


def _listed(names: Sequence[str], steps: int, batches: Sequence[int]) -> Iterator[tuple[str, str, str, Variant, int]]:
    """Yield (problem, arithmetic, kind, variant, batch)."""
    stored = variants(steps, ("store",))
    for name in names:
        every = variants(steps) if name == "float32" else stored
        yield from ((IMAGES, name, "cost", variant, n) for n in batches for variant in every)
        yield from ((IMAGES, name, "precision", variant, PRECISION_SAMPLES) for variant in stored)
        if name == "float32":
            few = [n for n in batches if n <= MOST_MOLECULES]
            yield from ((MOLECULES, name, "cost", variant, n) for n in few for variant in stored)


def _cell(
    options: Options, factory: str, problem: str, arithmetic: str, kind: str, variant: Variant, samples: int
) -> Cell:
    return Cell(
        measure=f"{__name__}:{kind}",
        factory=factory,
        problem=problem,
        path="condot",
        times=(T,),
        samples=samples,
        variants=(variant,),
        seed=options.seed,
        dtype="float32",
        device=options.device,
        extra=(("arithmetic", arithmetic), ("repetitions", REPETITIONS)),
    )


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


def _states(cell: Cell) -> tuple[Tensor, Loss]:
    """Return states (B, *event) in the cell's dtype, on the CPU, and a loss."""
    return _drawn(replace(cell, variants=(), extra=()))


@functools.lru_cache(maxsize=1)
def _drawn(cell: Cell) -> tuple[Tensor, Loss]:
    """Draw the states and the loss of cells that differ in their variants alone, once for successive ones."""
    subject, generator = resolve(cell.factory)(cell.problem, cell.path, cell.dtype, cell.device), cell.generator()
    x = subject.states(torch.tensor(cell.times, dtype=torch.float64), cell.samples, generator)
    return x.to(DTYPES[cell.dtype]), subject.loss(1, cell.samples, generator)


def _spent(cell: Cell) -> dict[str, Any]:
    """Return the median time of some gradients after a warm-up; on the CPU the warm-up counts the bytes."""
    subject, arithmetic, variant = _subject(cell), _arithmetic(cell), cell.variants[0]
    x, loss = _states(cell)
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


@functools.lru_cache(maxsize=len(variants(STEPS, ("store",))))
def _truth(cell: Cell) -> Tensor:
    """Return the float64 gradient (B, *event), on the CPU, for the cell's variant."""
    subject, variant = resolve(cell.factory)(cell.problem, cell.path, cell.dtype, "cpu"), cell.variants[0]
    x, loss = _states(cell)
    return ESTIMATORS[variant.estimator](subject.reference_flow, loss, x.double(), T, **dict(variant.options)).gradient


def _error(cell: Cell) -> dict[str, Any]:
    subject, variant = _subject(cell), cell.variants[0]
    x, loss = _states(cell)
    truth = _truth(replace(cell, device="cpu", extra=()))
    with _arithmetic(cell).active():
        estimate = ESTIMATORS[variant.estimator](subject.flow, loss, x.to(cell.device), T, **dict(variant.options))
    summary = errors.summary(errors.relative_error(estimate.gradient.double().cpu(), truth))
    status = "some samples are not finite" if summary["failed"] else "ok"
    return {"metric": "relative_error", "status": status} | summary


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Give times at the largest batch that all float32 gradients finished, the fastest arithmetic, the least memory."""
    molecules, table = only(table, kind="cost", status="ok", problem=MOLECULES), only(table, problem=IMAGES)
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
    if len(largest := only(molecules, estimator="end_to_end").sort_values("batch")):
        row["molecule_ms"] = 1000 * largest["seconds"].iloc[-1] / largest["batch"].iloc[-1]
        row["molecule_batch"] = int(largest["batch"].iloc[-1])
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
