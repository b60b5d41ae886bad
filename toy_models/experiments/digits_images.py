"""Gradients on the fitted digits as images: one state carried through several times."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from analysis import reference
from analysis.errors import relative_error
from analysis.experiment import Cell, Options, resolve
from analysis.gradients import ESTIMATORS
from toy_models.experiments.common import error_cell
from toy_models.experiments.digits import SETTINGS

TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)


def cells(options: Options) -> list[Cell]:
    """Return the cell of images."""
    cell = error_cell(options, "digits", "condot", TIMES, 1, SETTINGS[:3])
    return [Cell(**{**vars(cell), "measure": "toy_models.experiments.digits_images:measure"})]


def measure(cell: Cell) -> pd.DataFrame:
    """Return one row per time, image and pixel; the image "state" is x_t, the others are gradients and their error."""
    subject = resolve(cell.factory)(cell.problem, cell.path, cell.dtype, cell.device)
    generator = cell.generator()
    start = subject.states(torch.zeros(1, dtype=torch.float64), generator)
    clean, loss = subject.states(torch.ones(1, dtype=torch.float64), generator), subject.loss(1, generator)
    t = torch.tensor(cell.times, dtype=torch.float64)
    x = t[:, None] * clean + (1 - t)[:, None] * start
    truth = reference.ideal_gradient(subject.truth, loss.__class__(loss.target[0]), x, t)
    images: dict[str, Tensor] = {"state": x, "target": loss.target.expand_as(x), "ideal": truth.gradient}
    for setting in cell.settings:
        options = dict(setting.options)
        label = " ".join([setting.estimator, *(str(options[k]) for k in ("solver", "steps") if k in options)])
        rule = ESTIMATORS[setting.estimator]
        images[label] = rule(subject.truth, loss.__class__(loss.target[0]), x, t, **options).gradient
    return pd.concat([_long(cell, name, image, truth.gradient) for name, image in images.items()], ignore_index=True)


def _long(cell: Cell, name: str, image: Tensor, truth: Tensor) -> pd.DataFrame:
    error = relative_error(image, truth)
    rows = [
        {"problem": cell.problem, "path": cell.path, "image": name, "t": t, "pixel": j, "value": float(image[i, j])}
        | {"relative_error": float("nan") if name in ("state", "target") else float(error[i])}
        for i, t in enumerate(cell.times)
        for j in range(image.shape[1])
    ]
    return pd.DataFrame(rows)
