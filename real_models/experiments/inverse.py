"""Held-out digits restored with the learned flow, from measurements of eight kinds, by every method under one budget.

A cell is one method on one operator. Its hyper-parameter is the candidate with the best mean PSNR on images that are
not reported (held out, too, from the training of flow and classifier); every method has the same number of candidates.
Rows are values per image and metric, so that differences of methods are paired. A sample that diverges is a row whose
value is missing and whose status names the step. Rows of the first images hold their pixels, two hexadecimal digits
each.

Two families are there for one question: does the order of the dial's rungs by the error of their gradients predict
their order by PSNR? "dial" runs each rung under the budget, where a dearer gradient has fewer steps; "equal_steps"
gives all of them as many as end-to-end can afford, so that the gradient alone differs. Greedy's cell measures the
errors of all rungs on its own guided trajectories (``real_models.restoration.accuracy``).

Restoring runs in float32 with convolutions and products in bfloat16, whose gradients differ from float32's by about one
percent (median): less than any rung's from the truth. Guided trajectories of further rungs are sensitive: a start moved
by half a percent changes single images by several dB, in float32 as in bfloat16, and means over images by a few tenths,
as the arithmetic does. The errors of gradients are measured in float32.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from analysis import provenance
from analysis.experiment import Cell
from analysis.flow import Flow
from analysis.guidance import SAMPLERS
from analysis.guidance.tuning import choose
from analysis.settings import DTYPES, Options, Variant
from real_models import images
from real_models.arithmetic import Arithmetic
from real_models.restoration import accuracy, comparison
from real_models.restoration.methods import BUDGET, DIVERGENCE, EQUAL_STEPS, METHODS, Restorer, adaptive_steps, counts
from real_models.restoration.problems import NAMES, image_problem
from real_models.restoration.task import Task

NOISE, REPORTED, TUNING, SHOWN = 0.05, 32, 4, len(NAMES)
FULL = {"noise": NOISE, "tuning": TUNING, "budget": BUDGET, "accuracy": accuracy.IMAGES}
QUICK = {"noise": NOISE, "tuning": 0, "budget": 15, "accuracy": 0}
QUICK_METHODS = ("unguided", "greedy", "dps")
METRICS = ("psnr", "ssim", "misfit", "label", "clean_label")
SEEN = ("clean", "measurement")  # what is shown and judged beside the methods
ALL = METHODS | EQUAL_STEPS
derive = comparison.derive


def cells(options: Options) -> list[Cell]:
    """Return a cell per operator and method; every method tuned, but for the quick run."""
    if options.quick:
        return [cell(options, "super_resolution_2", name) for name in (*SEEN, *QUICK_METHODS)]
    return [cell(options, operator, name) for operator in NAMES for name in (*SEEN, *ALL)]


def cell(options: Options, operator: str, name: str) -> Cell:
    """Return the cell of a method on an operator."""
    return Cell(
        measure="real_models.experiments.inverse:measure",
        factory="real_models.images:flow",
        problem="mnist_unet",
        path="condot",
        times=accuracy.TIMES,
        samples=2 if options.quick else REPORTED,
        settings=(Variant.of(name),),
        seed=options.seed,
        dtype="float32",
        device=options.device,
        extra=(("operator", operator), *(QUICK if options.quick else FULL).items()),
    )


def measure(cell: Cell) -> pd.DataFrame:
    """Tune the cell's method on some images and measure it on others: one row per image and metric."""
    name, extra = cell.settings[0].estimator, dict(cell.extra)
    task = Task.draw(image_problem(extra["operator"], extra["noise"]), extra["tuning"] + cell.samples, cell.generator())
    tuning, reported = task.part(slice(extra["tuning"])), task.part(slice(extra["tuning"], None))
    row: dict[str, Any] = {"problem": cell.problem, "truth": "clean image", "path": cell.path, "estimator": name}
    row |= {"operator": extra["operator"], "noise": extra["noise"], "budget": extra["budget"], "dtype": cell.dtype}
    row |= {"arithmetic": "float32, bfloat16 inside", "device": provenance.device_name(cell.device), "seed": cell.seed}
    row |= {"solver": None, "horizon": None, "steps": None, "options": _text(extra["operator"], {}), "seconds": 0.0}
    row |= {"evaluations": 0.0, "vjps": 0.0, "t": None, "reference_bound": None}
    if name in SEEN:
        x = reported.clean if name == "clean" else task.problem.shown(reported.y)
        kept = ("misfit", "label") if name == "clean" else METRICS  # it is what the others are compared with
        return pd.DataFrame([row | one for one in _rows(reported, x, "seen") if one["metric"] in kept])
    try:
        rows = _restored(cell, ALL[name], tuning, reported)
    except ValueError as error:
        lost = torch.full_like(reported.clean, torch.nan)
        rows = [one | {"status": str(error)} for one in _rows(reported, lost, ALL[name].family)]
    return pd.DataFrame([row | one for one in rows])


def _text(operator: str, chosen: dict[str, Any]) -> str:
    return json.dumps({"operator": operator, "chosen": chosen}, sort_keys=True)


def _restored(cell: Cell, method: Restorer, tuning: Task, reported: Task) -> list[dict[str, Any]]:
    """Return the rows of a method, and with greedy's those of the errors of all rungs."""
    plain, name = images.flow("mnist", DTYPES[cell.dtype], cell.device), cell.settings[0].estimator
    flow = Arithmetic(channels_last=True, bfloat16=cell.dtype == "float32").flow(plain)
    options, tuned = _settled(cell, method, flow, tuning)
    found = SAMPLERS[method.sampler](flow, reported.loss, reported.x0.to(cell.device), **options)
    row: dict[str, Any] = {"options": _text(reported.problem.name, tuned), "seconds": found.cost.seconds}
    row |= {"steps": options[method.counted], "evaluations": found.cost.evaluations, "vjps": found.cost.vjps}
    rows = [row | one for one in _rows(reported, found.x, method.family, found.failed_at)]
    if name == "greedy" and (count := dict(cell.extra)["accuracy"]):
        some = reported.part(slice(count))
        states = accuracy.visited(flow, some.loss, some.x0.to(cell.device), cell.times, **options)
        common = {"family": "dial", "metric": "gradient_error", "status": "ok", "failed_at": -1, "pixels": None}
        common |= {"arithmetic": cell.dtype, "truth": "converged"}
        rows += [common | one for one in accuracy.rows(plain, some.loss, states)]
    return rows


def _settled(cell: Cell, method: Restorer, flow: Flow, tuning: Task) -> tuple[dict[str, Any], dict[str, float]]:
    """Return a sampler's options, with what the budget allows and what was chosen, and the latter alone."""
    options, budget = method.fixed | {"divergence": DIVERGENCE}, dict(cell.extra)["budget"]
    arguments = method, flow, tuning.loss, tuning.x0.to(cell.device), budget
    affordable = functools.partial(adaptive_steps, *arguments, divergence=DIVERGENCE)
    depends = cell.settings[0].estimator == "adaptive"
    options |= affordable(**_moderate(method.space(tuning.problem.noise))) if depends else counts(method, budget)
    tuned = _chosen(cell, method, flow, tuning, options)
    return options | tuned | (affordable(**tuned) if depends else {}), tuned


def _moderate(space: dict[str, list[float]]) -> dict[str, float]:
    return {name: values[len(values) // 3] for name, values in space.items()}


def _chosen(cell: Cell, method: Restorer, flow: Flow, tuning: Task, options: dict[str, Any]) -> dict[str, float]:
    """Return the best candidate on the images to tune on, or a moderate one where there are none."""
    space = method.space(tuning.problem.noise)
    if not (space and len(tuning.clean)):
        return _moderate(space)
    arguments = method.sampler, flow, tuning.loss, tuning.x0.to(cell.device), space
    return choose(*arguments, budget=len(method.candidates), seed=cell.seed, score=tuning.score, **options).options


def _rows(task: Task, x: Tensor, family: str, failed_at: Tensor | None = None) -> Iterator[dict[str, Any]]:
    """Yield a row per image and metric; those of the first images' misfits hold their pixels."""
    steps = torch.full((len(x),), -1) if failed_at is None else failed_at.cpu()
    x = torch.where((steps < 0)[:, None].to(x.device), x, torch.nan)
    for metric, values in task.judge(x).items():
        for i, (value, step) in enumerate(zip(values.tolist(), steps.tolist(), strict=True)):
            row = {"family": family, "metric": metric, "image": int(task.places[i]), "order": i, "value": value}
            row |= {"status": "ok" if step < 0 else f"diverged at step {step}", "failed_at": step}
            yield row | {"pixels": _hexadecimal(x[i]) if metric == "misfit" and i < SHOWN else None}


def _hexadecimal(image: Tensor) -> str:
    levels = ((image.nan_to_num(-1).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return levels.cpu().numpy().tobytes().hex()
