"""Gradients on the fitted digits as images: one state carried through several times."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
from torch import Tensor

from analysis.errors import relative_error
from analysis.experiment import Cell, draw, estimate
from analysis.losses import HalfSquaredDistance
from analysis.settings import Options
from toy_models.cells import error_cell
from toy_models.experiments.common import label
from toy_models.experiments.digits import SETTINGS

SUITE = "theory"
TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)


def cells(options: Options) -> list[Cell]:
    """Return the cell of images."""
    cell = error_cell(options, "digits", "condot", TIMES, 1, SETTINGS[:3])
    return [replace(cell, measure="toy_models.experiments.digits_images:measure")]


def measure(cell: Cell) -> pd.DataFrame:
    """Return one row per time, image and pixel; the image "state" is x_t, the others are gradients and their error."""
    drawn = draw(cell)
    assert isinstance(drawn.loss, HalfSquaredDistance)
    truth = drawn.reference.gradient
    images = {"state": drawn.x, "target": drawn.loss.target, "ideal": truth}
    images |= {label(setting): estimate(cell, drawn, setting).gradient for setting in cell.settings}
    return pd.concat([_long(cell, name, image, truth) for name, image in images.items()], ignore_index=True)


def _long(cell: Cell, name: str, image: Tensor, truth: Tensor) -> pd.DataFrame:
    error = relative_error(image, truth)
    rows = [
        {"problem": cell.problem, "path": cell.path, "image": name, "t": t, "pixel": j, "value": float(image[i, j])}
        | {"relative_error": float("nan") if name in ("state", "target") else float(error[i])}
        for i, t in enumerate(cell.times)
        for j in range(image.shape[1])
    ]
    return pd.DataFrame(rows)
