"""Linear measurement operators of square images, flat and row-major, with pixels in [-1, 1].

These are the operators on which diffusion posterior sampling is usually evaluated (Chung et al. 2023, arXiv 2209.14687,
section 4), made of torch's and SciPy's functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from analysis import checks
from analysis.operators.linear import LinearOperator, from_forward, from_matrix

MOST_SIDE = 4096  # of the image: its pixels are the rows of a matrix


def _selection(observed: Tensor) -> LinearOperator:
    """Return the operator that observes the pixels where ``observed`` (d,) is true."""
    index = observed.nonzero()[:, 0]
    if not 0 < len(index) < len(observed):
        raise ValueError(f"the mask must hide some pixels and keep some, but keeps {len(index)} of {len(observed)}")
    return from_forward(lambda x: x[:, index.to(x.device)], len(observed))


def box_inpainting(
    side: int, box: int | None = None, top: int | None = None, left: int | None = None
) -> LinearOperator:
    """Hide a box of ``box`` x ``box`` pixels, by default half the side and centred.

    Returns
    -------
    LinearOperator
        (B, side^2) to (B, side^2 - box^2).

    Raises
    ------
    ValueError
        For a box that does not lie in the image.
    """
    side = checks.count("side", side, MOST_SIDE)
    box = checks.count("box", side // 2 if box is None else box)
    top, left = (
        (side - box) // 2 if corner is None else checks.count(name, corner, least=0)
        for name, corner in (("top", top), ("left", left))
    )
    if min(top, left) < 0 or max(top, left) + box > side:
        raise ValueError(f"box must lie in the image of side {side}, got size {box} at ({top}, {left})")
    observed = torch.ones(side, side, dtype=torch.bool)
    observed[top : top + box, left : left + box] = False
    return _selection(observed.flatten())


def random_inpainting(side: int, keep: float = 0.3, seed: int = 0) -> LinearOperator:
    """Observe a random share ``keep`` of all pixels, the same ones for every image; ``ValueError`` for a bad share."""
    side, generator = checks.count("side", side, MOST_SIDE), torch.Generator().manual_seed(checks.seed("seed", seed))
    order = torch.randperm(side**2, generator=generator)
    return _selection(order < round(_fraction("keep", keep) * side**2))


def super_resolution(side: int, factor: int) -> LinearOperator:
    """Average blocks of ``factor`` x ``factor`` pixels.

    Returns
    -------
    LinearOperator
        (B, side^2) to (B, (side/factor)^2).

    Raises
    ------
    ValueError
        For a factor that does not divide the side.
    """
    side, factor = checks.count("side", side, MOST_SIDE), checks.count("factor", factor)
    if side % factor:
        raise ValueError(f"factor must divide the side, {side}, got {factor}")
    return from_forward(lambda x: functional.avg_pool2d(_image(x, side), factor).flatten(1), side**2)


def super_resolution_2(side: int) -> LinearOperator:
    """Average blocks of 2 x 2 pixels."""
    return super_resolution(side, 2)


def super_resolution_4(side: int) -> LinearOperator:
    """Average blocks of 4 x 4 pixels."""
    return super_resolution(side, 4)


def gaussian_deblurring(side: int, width: float = 1.0, truncate: float = 3.0) -> LinearOperator:
    """Blur with a Gaussian of standard deviation ``width`` pixels, cut at ``truncate`` standard deviations."""
    side, width = checks.count("side", side, MOST_SIDE), checks.positive("width", width)
    reach = checks.count("truncate * width", math.ceil(checks.positive("truncate", truncate) * width), MOST_SIDE)
    point = np.zeros((2 * reach + 1, 2 * reach + 1))
    point[reach, reach] = 1
    return _blur(side, ndimage.gaussian_filter(point, width, mode="constant", radius=reach))


def motion_deblurring(side: int, length: int = 5, angle: float = 30.0) -> LinearOperator:
    """Blur along a line of ``length`` pixels, an odd number, at ``angle`` degrees to the rows.

    Returns
    -------
    LinearOperator
        (B, side^2) to (B, side^2).

    Raises
    ------
    ValueError
        For an even length.
    """
    side, length = checks.count("side", side, MOST_SIDE), checks.count("length", length, MOST_SIDE)
    if length % 2 == 0:
        raise ValueError(f"length must be odd, so that the kernel has a centre, got {length}")
    line = np.zeros((length, length))
    line[length // 2] = 1
    return _blur(side, ndimage.rotate(line, checks.finite_number("angle", angle), reshape=False, order=1))


def compressed_sensing(side: int, ratio: float = 0.25, seed: int = 0) -> LinearOperator:
    """Take ``ratio`` d Gaussian projections; entries N(0, 1/d) give y the scale of a pixel."""
    d = checks.count("side", side, MOST_SIDE) ** 2
    m = max(1, round(_fraction("ratio", ratio) * d))
    generator = torch.Generator().manual_seed(checks.seed("seed", seed))
    return from_matrix(torch.randn(m, d, dtype=torch.float64, generator=generator) / math.sqrt(d))


OPERATORS: checks.Registry[Callable[..., LinearOperator]] = checks.Registry(
    "operator",
    {
        function.__name__: function
        for function in (
            box_inpainting,
            random_inpainting,
            super_resolution_2,
            super_resolution_4,
            gaussian_deblurring,
            motion_deblurring,
            compressed_sensing,
        )
    },
)


def _image(x: Tensor, side: int) -> Tensor:
    return x.unflatten(1, (1, side, side))


def _blur(side: int, kernel: np.ndarray) -> LinearOperator:
    """Return the convolution with a normalised kernel (odd, odd); images are extended by their border pixels."""
    weights = torch.from_numpy(kernel / kernel.sum())[None, None]
    reach = (kernel.shape[1] // 2,) * 2 + (kernel.shape[0] // 2,) * 2

    def forward(x: Tensor) -> Tensor:
        padded = functional.pad(_image(x, side), reach, mode="replicate")
        return functional.conv2d(padded, weights.to(x)).flatten(1)

    return from_forward(forward, side**2)


def _fraction(name: str, value: float) -> float:
    if not 0 < checks.number(name, value) <= 1:
        raise ValueError(f"{name} must lie in (0, 1], got {value!r}")
    return float(value)
