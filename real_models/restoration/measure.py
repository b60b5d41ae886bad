"""What a cell measures of restored images: a method is tuned on some images and run on others, over budgets.

Restoring runs in float32 with convolutions and products in bfloat16, whose gradients differ from float32's by about one
percent (median), less than the error of any estimator. Trajectories guided by estimators of many steps are sensitive: a
start moved by half a percent changes single images by several dB, in float32 as in bfloat16, and means over images by a
few tenths, as the arithmetic does. The errors of gradients are measured in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from analysis.cost import Cost
from analysis.experiment import Cell
from analysis.fitted_search import FittedSearch
from analysis.flow import Flow
from analysis.guidance.registry import SAMPLERS, Sample
from analysis.measurements import MeasuredBatch
from analysis.search import Search, Tried, best_runs
from analysis.settings import DTYPES
from real_models import images
from real_models.arithmetic import Arithmetic
from real_models.restoration import accuracy, methods
from real_models.restoration.digits import digits_problem, measured_digits, restoration_metrics

REFERENCES = ("clean", "measurement", "unguided")  # what is measured beside the methods
STEPS = 32  # of unguided solves, and of those on which the errors of gradients are measured
SCALE = 3.0  # of the latter, by the rule "dps", in units of the noise
AIMS = {"misfit": 1, "psnr": -1}
METRICS = ("psnr", "ssim", "misfit", "label", "clean_label")
SHOWN = 8  # images whose pixels are in the table


def flow_of(cell: Cell) -> Flow:
    """Return the learned flow of the digits in the arithmetic of a cell's dtype."""
    plain = images.flow("mnist", DTYPES[cell.dtype], cell.device)
    return Arithmetic(channels_last=True, bfloat16=cell.dtype == "float32").flow(plain)


def batches(cell: Cell) -> tuple[MeasuredBatch, MeasuredBatch]:
    """Return the measured images to tune on and those to report; they do not depend on the method."""
    extra = cell.extra_dict
    problem, count = digits_problem(extra["operator"], extra["noise"]), extra["tuning"] + cell.samples
    batch = measured_digits(problem, count, cell.generator()).start_on(cell.device, DTYPES[cell.dtype])
    return batch.part(slice(extra["tuning"])), batch.part(slice(extra["tuning"], None))


def metrics(sample: Sample, batch: MeasuredBatch) -> dict[str, Tensor]:
    """Return {metric: (B,)} of restored images, with NaN for one that diverged."""
    return restoration_metrics(batch, torch.where(sample.failed[:, None].to(sample.x.device), torch.nan, sample.x))


def measure(cell: Cell) -> pd.DataFrame:
    """Tune a method on some images and measure it on others: a row per budget, aim, image and metric."""
    tuning, reported = batches(cell)
    extra, name = cell.extra_dict, cell.variants[0].estimator
    place = cell.columns() | {"truth": "clean image", "estimator": name, "arithmetic": "float32, bfloat16 inside"}
    place |= {key: extra[key] for key in ("regime", "operator", "noise")}
    if extra["regime"] == "references":
        rows = _references(cell, reported)
    elif extra["regime"] == "errors":
        rows = _errors(cell, reported)
    else:
        search_for = FittedSearch if name == "adaptive" else Search  # its cost depends on the state
        search = search_for(flow_of(cell), *methods.chosen(extra["regime"], name), tuning, metrics, AIMS, cell.seed)
        rows = _searched(search, reported, extra)
    return pd.DataFrame([place | row for row in rows])


def _references(cell: Cell, batch: MeasuredBatch) -> Iterator[dict[str, Any]]:
    """Yield the rows of the clean images, of the measurements, shown as images, and of unguided samples."""
    unguided = SAMPLERS["posterior_guidance"](flow_of(cell), batch.loss(), batch.x0, steps=STEPS, scale=0.0)
    seen = (batch.clean, batch.problem.as_images(batch.measurements), unguided.x)
    for name, x in zip(REFERENCES, seen, strict=True):
        sample = Sample(x, x.sum(1), Cost(), torch.full((len(x),), -1))
        wanted = ("misfit", "label") if name == "clean" else METRICS  # the others compare with the clean image
        yield from (row | {"estimator": name} for row in _rows(sample, batch) if row["metric"] in wanted)


def _errors(cell: Cell, batch: MeasuredBatch) -> Iterator[dict[str, Any]]:
    """Yield the errors of the dial's gradients at states of greedy guidance, against converged solves."""
    plain, options = images.flow("mnist", DTYPES[cell.dtype], cell.device), {"rule": "dps", "steps": STEPS}
    scale = SCALE * batch.problem.noise
    states = accuracy.visited(plain, batch.loss(), batch.x0, cell.times, scale=scale, **options)
    common = {"metric": "gradient_error", "status": "ok", "arithmetic": cell.dtype, "truth": "converged"}
    return (common | row for row in accuracy.rows(plain, batch.loss(), states))


def _searched(
    search: Search[MeasuredBatch], reported: MeasuredBatch, extra: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of all budgets, the first of which is that of the trials all over the ranges."""
    first, *others = extra["budgets"]
    try:
        known = search.wide(extra["trials"], first)
    except ValueError as error:  # as of PiGDM on a measurement that is not linear
        yield {"budget": first, "status": str(error)}
        return
    yield from _at(search, known, first, reported)
    for budget in others:
        known += search.grown(known, extra["trials"], extra["kept"], budget)
        yield from _at(search, known, budget, reported)


def _at(
    search: Search[MeasuredBatch], known: list[Tried], budget: float, reported: MeasuredBatch
) -> Iterator[dict[str, Any]]:
    """Yield the rows of the best of the known trials at a budget, by aim."""
    for row, sample in best_runs(search, known, budget, reported):
        yield from (row | one for one in _rows(sample, reported)) if sample else (row,)


def _rows(sample: Sample, batch: MeasuredBatch) -> Iterator[dict[str, Any]]:
    """Yield a row per image and metric; the misfit rows of the first images hold their pixels, as hexadecimal."""
    assert batch.index is not None
    cost = {"evaluations": sample.cost.evaluations, "vjps": sample.cost.vjps}
    for metric, values in metrics(sample, batch).items():
        for i, (value, step) in enumerate(zip(values.tolist(), sample.failed_at.tolist(), strict=True)):
            row: dict[str, Any] = {"metric": metric, "image": int(batch.index[i]), "order": i, "value": value}
            row |= cost | {"status": "ok" if step < 0 else f"diverged at step {step}"}
            yield row | {"pixels": _hexadecimal(sample.x[i]) if metric == "misfit" and i < SHOWN else None}


def _hexadecimal(image: Tensor) -> str:
    levels = ((image.nan_to_num(-1).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return levels.cpu().numpy().tobytes().hex()
