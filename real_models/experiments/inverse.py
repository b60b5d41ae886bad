"""Held-out digits restored with the learned flow, from measurements of eight kinds, by every method under one budget.

A cell is one method on one operator. Its hyper-parameter is the candidate with the best mean PSNR on images that are
not reported (these, too, were held out from the training of flow and classifier); every method has the same number of
candidates. Rows are values per image and metric, so that differences of methods are paired. A sample that diverges is a
row with a missing value and a status that names the step. Rows of the first images hold their pixels, two hexadecimal
digits each.

Two families answer one question: does the order of the dial's estimators by the error of their gradients predict their
order by PSNR? "dial" runs each under the budget, so that an estimator with a more expensive gradient takes fewer steps;
"equal_steps" gives every estimator the number of steps that end-to-end can afford, so that only the gradient differs.
Greedy's cell measures the errors of all estimators on its own guided trajectories
(``real_models.restoration.accuracy``).

Restoring runs in float32 with convolutions and products in bfloat16, whose gradients differ from float32's by about one
percent (median), less than the error of any estimator. Trajectories guided by estimators of many steps are sensitive: a
start moved by half a percent changes single images by several dB, in float32 as in bfloat16, and means over images by a
few tenths, as the arithmetic does. The errors of gradients are measured in float32.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from analysis.experiment import Cell
from analysis.flow import Flow
from analysis.guidance import Method
from analysis.measurements import MeasuredBatch, chosen_options
from analysis.settings import DTYPES, Options, Variant
from real_models import images
from real_models.arithmetic import Arithmetic
from real_models.restoration import accuracy, comparison
from real_models.restoration.digits import NAMES, digits_problem, measured_digits, negative_psnr, restoration_metrics
from real_models.restoration.methods import BUDGET, DIVERGENCE, EQUAL_STEPS, METHODS, adaptive_steps, counts

SUITE = "images"
NOISE, REPORTED, TUNING, SHOWN = 0.05, 32, 4, len(NAMES)
FULL = {"noise": NOISE, "tuning": TUNING, "budget": BUDGET, "accuracy": accuracy.IMAGES}
QUICK = {"noise": NOISE, "tuning": 0, "budget": 15, "accuracy": 0}
QUICK_METHODS = ("unguided", "greedy", "dps")
METRICS = ("psnr", "ssim", "misfit", "label", "clean_label")
REFERENCES = ("clean", "measurement")  # images that are measured beside those of the methods
ALL = METHODS | EQUAL_STEPS
derive = comparison.derive


def cells(options: Options) -> list[Cell]:
    """Return a cell per operator and method; all methods are tuned, except in the quick run."""
    if options.quick:
        return [cell(options, "super_resolution_2", name) for name in (*REFERENCES, *QUICK_METHODS)]
    return [cell(options, operator, name) for operator in NAMES for name in (*REFERENCES, *ALL)]


def cell(options: Options, operator: str, name: str) -> Cell:
    """Return the cell of a method on an operator."""
    return Cell(
        measure=f"{__name__}:measure",
        factory="real_models.images:flow",
        problem="mnist_unet",
        path="condot",
        times=accuracy.TIMES,
        samples=2 if options.quick else REPORTED,
        variants=(Variant.of(name),),
        seed=options.seed,
        dtype="float32",
        device=options.device,
        extra=(("operator", operator), *(QUICK if options.quick else FULL).items()),
    )


def measure(cell: Cell) -> pd.DataFrame:
    """Tune the cell's method on some images and measure it on others: one row per image and metric."""
    name, extra = cell.variants[0].estimator, cell.extra_dict
    problem, count = digits_problem(extra["operator"], extra["noise"]), extra["tuning"] + cell.samples
    batch = measured_digits(problem, count, cell.generator()).start_on(cell.device, DTYPES[cell.dtype])
    tuning, reported = batch.part(slice(extra["tuning"])), batch.part(slice(extra["tuning"], None))
    row = cell.columns() | {"truth": "clean image", "estimator": name, "arithmetic": "float32, bfloat16 inside"}
    row |= {key: extra[key] for key in ("operator", "noise", "budget")}
    row |= dict.fromkeys(("solver", "horizon", "fraction", "steps", "t", "reference_bound"))
    row |= {"options": _text(extra["operator"], {}), "seconds": 0.0, "evaluations": 0.0, "vjps": 0.0}
    if name in REFERENCES:
        x = reported.clean if name == "clean" else problem.as_images(reported.measurements)
        wanted = ("misfit", "label") if name == "clean" else METRICS  # the others compare with the clean image
        return pd.DataFrame([row | one for one in _rows(reported, x, "seen") if one["metric"] in wanted])
    try:
        rows = _restored(cell, ALL[name], tuning, reported)
    except ValueError as error:
        lost = torch.full_like(reported.clean, torch.nan)
        rows = [one | {"status": str(error)} for one in _rows(reported, lost, ALL[name].family)]
    return pd.DataFrame([row | one for one in rows])


def _text(operator: str, chosen: dict[str, Any]) -> str:
    return json.dumps({"operator": operator, "chosen": chosen}, sort_keys=True)


def _restored(cell: Cell, method: Method, tuning: MeasuredBatch, reported: MeasuredBatch) -> list[dict[str, Any]]:
    """Return the rows of a method and, for greedy, also those of the errors of all estimators."""
    plain, name = images.flow("mnist", DTYPES[cell.dtype], cell.device), cell.variants[0].estimator
    flow = Arithmetic(channels_last=True, bfloat16=cell.dtype == "float32").flow(plain)
    options, tuned = _options(cell, method, flow, tuning)
    sample = method.run(flow, reported.loss(), reported.x0, **options)
    row: dict[str, Any] = {"options": _text(reported.problem.name, tuned), "seconds": sample.cost.seconds}
    row |= {"steps": (method.options | options)[method.counted]}
    row |= {"evaluations": sample.cost.evaluations, "vjps": sample.cost.vjps}
    rows = [row | one for one in _rows(reported, sample.x, method.family, sample.failed_at)]
    if name == "greedy" and (count := cell.extra_dict["accuracy"]):
        some = reported.part(slice(count))
        states = accuracy.visited(flow, some.loss(), some.x0, cell.times, **method.options | options)
        common = {"family": "dial", "metric": "gradient_error", "status": "ok", "failed_at": -1, "pixels": None}
        common |= {"arithmetic": cell.dtype, "truth": "converged"}
        rows += [common | one for one in accuracy.rows(plain, some.loss(), states)]
    return rows


def _options(cell: Cell, method: Method, flow: Flow, tuning: MeasuredBatch) -> tuple[dict[str, Any], dict[str, float]]:
    """Return all options beyond the method's own, and the tuned ones alone, from which the budget fixes the others."""
    budget, options = cell.extra_dict["budget"], {"divergence": DIVERGENCE}
    depends = cell.variants[0].estimator == "adaptive"

    def affordable(**tuned: float) -> dict[str, int]:
        return adaptive_steps(method, flow, tuning.loss(), tuning.x0, budget, divergence=DIVERGENCE, **tuned)

    tuned = _moderate(method, tuning)
    options |= affordable(**tuned) if depends else counts(method, budget)
    if len(tuning.clean):  # the quick run has no images to tune on
        tuned = chosen_options(method, flow, tuning, functools.partial(negative_psnr, tuning), **options)
    return options | tuned | (affordable(**tuned) if depends else {}), tuned


def _moderate(method: Method, tuning: MeasuredBatch) -> dict[str, float]:
    """Return a candidate from the middle of the range."""
    return {name: values[len(values) // 3] for name, values in method.space(tuning.problem.noise).items()}


def _rows(batch: MeasuredBatch, x: Tensor, family: str, failed_at: Tensor | None = None) -> Iterator[dict[str, Any]]:
    """Yield a row per image and metric; the misfit rows of the first images hold their pixels."""
    steps = torch.full((len(x),), -1) if failed_at is None else failed_at.cpu()
    x = torch.where((steps < 0)[:, None].to(x.device), x, torch.nan)
    assert batch.index is not None
    for metric, values in restoration_metrics(batch, x).items():
        for i, (value, step) in enumerate(zip(values.tolist(), steps.tolist(), strict=True)):
            row = {"family": family, "metric": metric, "image": int(batch.index[i]), "order": i, "value": value}
            row |= {"status": "ok" if step < 0 else f"diverged at step {step}", "failed_at": step}
            yield row | {"pixels": _hexadecimal(x[i]) if metric == "misfit" and i < SHOWN else None}


def _hexadecimal(image: Tensor) -> str:
    levels = ((image.nan_to_num(-1).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return levels.cpu().numpy().tobytes().hex()
