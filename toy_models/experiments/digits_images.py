"""Gradients on the fitted digits as images: one state carried through several times."""

from __future__ import annotations

import pandas as pd
from torch import Tensor

from analysis.errors import relative_error
from analysis.experiment import Cell, estimate, sample_states
from analysis.losses import HalfSquaredDistance
from analysis.settings import Options
from toy_models.cells import error_cell
from toy_models.experiments.common import label
from toy_models.experiments.digits import VARIANTS

SUITE = "theory"
TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)


def cells(options: Options) -> list[Cell]:
    """Return the cell of images."""
    return [error_cell(options, "digits", "condot", TIMES, 1, VARIANTS[:3], measure=f"{__name__}:measure")]


def measure(cell: Cell) -> pd.DataFrame:
    """Return one row per time, image and pixel; "state" is x_t, the other images are gradients with their errors."""
    batch = sample_states(cell)
    assert isinstance(batch.loss, HalfSquaredDistance)
    truth = batch.reference.gradient
    images = {"state": batch.x, "target": batch.loss.target, "ideal": truth}
    images |= {label(variant): estimate(cell, batch, variant).gradient for variant in cell.variants}
    return pd.concat([_long(cell, name, image, truth) for name, image in images.items()], ignore_index=True)


def _long(cell: Cell, name: str, image: Tensor, truth: Tensor) -> pd.DataFrame:
    error = relative_error(image, truth)
    rows = [
        cell.columns()
        | {"image": name, "t": t, "pixel": j, "value": float(image[i, j])}
        | {"relative_error": float("nan") if name in ("state", "target") else float(error[i])}
        for i, t in enumerate(cell.times)
        for j in range(image.shape[1])
    ]
    return pd.DataFrame(rows)
