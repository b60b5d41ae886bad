"""Guided samples of real held-out MNIST images beside the exact posterior of the mixture fitted to other images.

Every method's hyper-parameter is chosen among the same number of candidates, by the mean energy distance to the exact
posteriors of measurements of two other held-out images.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from analysis.experiment import Cell
from analysis.measurements import MeasuredBatch, tuned_run
from analysis.operators import inverse_problem
from analysis.paths import PATHS
from analysis.settings import Options, Variant
from toy_models.experiments.outcome import METHODS, NOISE
from toy_models.posteriors.measurements import measured_batch
from toy_models.problems import mnist

SUITE = "guidance"
OPERATORS = ("super_resolution_4", "random_inpainting", "compressed_sensing")
SHOWN = ("unguided", "likelihood:greedy", "dps:greedy", "likelihood:midpoint")
HELD_OUT, MEMBERS, EXACT = 2, 2, 32


def cells(options: Options) -> list[Cell]:
    """Return a cell per operator."""
    names = SHOWN[:2] if options.quick else SHOWN
    made = [
        Cell(
            measure=f"{__name__}:measure",
            factory="toy_models.problems.mnist:flow",
            problem=f"mnist, {operator}",
            path="condot",
            samples=MEMBERS,
            variants=tuple(Variant.of(name) for name in names),
            seed=options.seed,
            extra=(("operator", operator),),
        )
        for operator in OPERATORS
    ]
    return made[:1] if options.quick else made


def measure(cell: Cell) -> pd.DataFrame:
    """Return one row per image and pixel; ``misfit`` is chi^2/m of that image."""
    operator, generator = str(cell.extra_dict["operator"]), cell.generator()
    flow, problem = mnist.flow(PATHS[cell.path]()), inverse_problem(operator, mnist.SIDE, NOISE)
    images = mnist.held_out()[0]
    images = images[torch.randperm(len(images), generator=generator)[: HELD_OUT + 1]]
    tuning, shown = (
        measured_batch(flow.mixture, problem, part, generator, members=MEMBERS, exact=EXACT)
        for part in (images[:HELD_OUT], images[HELD_OUT:])
    )
    pictures = {"image": shown.clean[:1], "measurement": problem.as_images(shown.measurements[:1])}
    pictures |= {"mean": shown.exact.law.mean[:1], "exact": shown.exact.samples[0, :MEMBERS]}
    for variant in cell.variants:  # samples that diverged are shown where they stopped
        pictures[variant.estimator] = tuned_run(METHODS[variant.estimator], flow, tuning, shown).sample.x
    return pd.DataFrame([row for name, x in pictures.items() for row in _rows(cell, operator, shown, name, x)])


def _rows(cell: Cell, operator: str, shown: MeasuredBatch, name: str, x: Tensor) -> Iterator[dict[str, Any]]:
    for i, image in enumerate(x):
        row = cell.columns() | {"problem": "mnist", "operator": operator, "noise": shown.problem.noise}
        row |= {"image": name, "member": i, "misfit": float(shown.misfit(image[None, None]))}
        yield from (row | {"pixel": j, "value": value} for j, value in enumerate(image.tolist()))


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Give the median misfit chi^2/m of the exact samples, and the range of the guided methods' misfits."""
    images = table.drop_duplicates(["operator", "image", "member"]).groupby("image")["misfit"].median()
    guided = images.drop(["image", "measurement", "mean", "exact", "unguided"], errors="ignore")
    row = {"noise": table["noise"].iloc[0], "exact": images["exact"], "unguided": images["unguided"]}
    row |= {"guided_low": guided.min(), "guided_high": guided.max()} if len(guided) else {}
    return {"facts": pd.DataFrame([row])}
