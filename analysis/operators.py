r"""Linear measurement operators of square images, :math:`y = A x`, and inverse problems :math:`y = A x + N(0, R)`.

An operator is a pair of batched functions, x (B, d) -> (B, m) and its adjoint, tested against each other when it is
made; ``matrix()`` is the dense A (m, d). Images are flat, row-major, with pixels in [-1, 1]. The operators are those
on which diffusion posterior sampling is usually judged (Chung et al. 2023, arXiv 2209.14687, section 4), made of
torch's and SciPy's own functions; adjoints come from reverse-mode differentiation, which for a linear function is
exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from analysis import checks

Map = Callable[[Tensor], Tensor]
TOLERANCE = 1e-9  # of the dot-product test, relative to the norms: far above round-off, far below any wrong factor


@dataclass(frozen=True)
class LinearOperator:
    """A linear map of flat vectors and its adjoint.

    Parameters
    ----------
    forward : x (B, in_dim) -> (B, out_dim), for any B and in float64
    adjoint : y (B, out_dim) -> (B, in_dim), its transpose
    in_dim, out_dim : d and m

    Raises ``ValueError`` that names the argument for functions that return another shape or dtype, and where
    <A x, y> = <x, A^T y> fails for three random pairs of x and y.
    """

    forward: Map
    adjoint: Map
    in_dim: int
    out_dim: int

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        sizes = checks.count("in_dim", self.in_dim), checks.count("out_dim", self.out_dim)
        x, y = (torch.randn(3, size, dtype=torch.float64, generator=generator) for size in sizes)
        ax, aty = _applied("forward", self.forward, x, y), _applied("adjoint", self.adjoint, y, x)
        size = torch.maximum(_norm(ax) * _norm(y), _norm(x) * _norm(aty))
        error = (torch.linalg.vecdot(ax, y) - torch.linalg.vecdot(x, aty)).abs()
        if bool((error > TOLERANCE * size).any()):
            worst = float((error / size).max())
            raise ValueError(f"adjoint must be the transpose of forward: <A x, y> and <x, A^T y> differ by {worst:.3g}")

    def __call__(self, x: Tensor) -> Tensor:
        """Return A x, (B, m), for x (B, d)."""
        if x.ndim != 2 or x.shape[1] != self.in_dim:
            raise ValueError(f"x must have shape (B, {self.in_dim}), got {tuple(x.shape)}")
        return self.forward(x)

    def matrix(self) -> Tensor:
        """Return A, (m, d), in float64: the operator applied to the identity."""
        return self.forward(torch.eye(self.in_dim, dtype=torch.float64)).T.contiguous()


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=1)


def _applied(name: str, function: Map, x: Tensor, like: Tensor) -> Tensor:
    value = function(x)
    if not isinstance(value, Tensor) or value.shape != like.shape or value.dtype != like.dtype:
        got = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        expected = f"{tuple(x.shape)} to {tuple(like.shape)} {like.dtype}"
        raise ValueError(f"{name} must map {expected}, got {got}")
    return checks.finite(f"{name}'s value", value)


def from_forward(forward: Map, in_dim: int) -> LinearOperator:
    """Return the operator of a linear torch function x (B, in_dim) -> (B, m); its adjoint is by differentiation."""

    def adjoint(y: Tensor) -> Tensor:
        return torch.func.vjp(forward, y.new_zeros(len(y), in_dim))[1](y)[0]

    return LinearOperator(forward, adjoint, in_dim, forward(torch.zeros(1, in_dim, dtype=torch.float64)).shape[1])


def from_matrix(matrix: Tensor) -> LinearOperator:
    """Return the operator of a matrix A (m, d)."""
    a = checks.finite("matrix", torch.as_tensor(matrix, dtype=torch.float64))
    if a.ndim != 2 or 0 in a.shape:
        raise ValueError(f"matrix must have shape (m, d), got {tuple(a.shape)}")
    return LinearOperator(lambda x: x @ a.to(x).T, lambda y: y @ a.to(y), a.shape[1], a.shape[0])


def as_matrix(A: Tensor | LinearOperator) -> Tensor:
    """Return a measurement operator, given either way, as a matrix (m, d)."""
    return A.matrix() if isinstance(A, LinearOperator) else torch.as_tensor(A, dtype=torch.float64)


def _selection(kept: Tensor) -> LinearOperator:
    """Return the operator that keeps the pixels where ``kept`` (d,) is true."""
    index = kept.nonzero()[:, 0]
    if not 0 < len(index) < len(kept):
        raise ValueError(f"the mask must hide some pixels and keep some, but keeps {len(index)} of {len(kept)}")
    return from_forward(lambda x: x[:, index.to(x.device)], len(kept))


def box_inpainting(
    side: int, box: int | None = None, top: int | None = None, left: int | None = None
) -> LinearOperator:
    """Hide a box of ``box`` x ``box`` pixels, by default half the side and centred."""
    box = checks.count("box", side // 2 if box is None else box)
    top, left = ((side - box) // 2 if corner is None else corner for corner in (top, left))
    if min(top, left) < 0 or max(top, left) + box > side:
        raise ValueError(f"box must lie in the image of side {side}, got size {box} at ({top}, {left})")
    kept = torch.ones(side, side, dtype=torch.bool)
    kept[top : top + box, left : left + box] = False
    return _selection(kept.flatten())


def random_inpainting(side: int, keep: float = 0.3, seed: int = 0) -> LinearOperator:
    """Keep a random ``keep`` of all pixels, the same ones for every image."""
    order = torch.randperm(side**2, generator=torch.Generator().manual_seed(seed))
    return _selection(order < round(_fraction("keep", keep) * side**2))


def super_resolution(side: int, factor: int) -> LinearOperator:
    """Average blocks of ``factor`` x ``factor`` pixels."""
    if side % checks.count("factor", factor):
        raise ValueError(f"factor must divide the side, {side}, got {factor}")
    return from_forward(lambda x: functional.avg_pool2d(_image(x, side), factor).flatten(1), side**2)


def super_resolution_2(side: int) -> LinearOperator:
    """Average blocks of 2 x 2 pixels."""
    return super_resolution(side, 2)


def super_resolution_4(side: int) -> LinearOperator:
    """Average blocks of 4 x 4 pixels."""
    return super_resolution(side, 4)


def gaussian_deblurring(side: int, width: float = 1.0, truncate: float = 3.0) -> LinearOperator:
    """Blur with a Gaussian of standard deviation ``width`` pixels, cut at ``truncate`` of them."""
    reach = math.ceil(_positive("truncate", truncate) * _positive("width", width))
    point = np.zeros((2 * reach + 1, 2 * reach + 1))
    point[reach, reach] = 1
    return _blur(side, ndimage.gaussian_filter(point, width, mode="constant", radius=reach))


def motion_deblurring(side: int, length: int = 5, angle: float = 30.0) -> LinearOperator:
    """Blur along a line of ``length`` pixels, an odd number, at ``angle`` degrees to the rows."""
    if checks.count("length", length) % 2 == 0:
        raise ValueError(f"length must be odd, so that the kernel has a centre, got {length}")
    line = np.zeros((length, length))
    line[length // 2] = 1
    return _blur(side, ndimage.rotate(line, angle, reshape=False, order=1))


def compressed_sensing(side: int, ratio: float = 0.25, seed: int = 0) -> LinearOperator:
    """Take ``ratio`` d Gaussian projections; entries N(0, 1/d) give y the scale of a pixel."""
    d = side**2
    m = max(1, round(_fraction("ratio", ratio) * d))
    generator = torch.Generator().manual_seed(seed)
    return from_matrix(torch.randn(m, d, dtype=torch.float64, generator=generator) / math.sqrt(d))


OPERATORS: dict[str, Callable[..., LinearOperator]] = {
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
}


@dataclass(frozen=True)
class InverseProblem:
    """A measurement y = A x + noise N(0, I) of flat images; ``noise`` is in units of y, where pixels span [-1, 1]."""

    operator: LinearOperator
    noise: float

    def __post_init__(self) -> None:
        _positive("noise", self.noise)

    @property
    def noise_covariance(self) -> Tensor:
        """R = noise^2 I, (m, m)."""
        return self.noise**2 * torch.eye(self.operator.out_dim, dtype=torch.float64)

    def measure(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return noisy measurements (B, m) of images x (B, d), drawn with an explicit CPU generator."""
        clean = self.operator(x)
        return clean + self.noise * torch.randn(clean.shape, dtype=torch.float64, generator=generator).to(clean)


def inverse_problem(name: str, side: int, noise: float, **options: float) -> InverseProblem:
    """Return the named inverse problem of images of ``side`` x ``side`` pixels; options are the operator's own."""
    operator = OPERATORS[checks.known("name", name, OPERATORS)]
    return InverseProblem(operator(checks.count("side", side), **options), noise)


def _image(x: Tensor, side: int) -> Tensor:
    return x.unflatten(1, (1, side, side))


def _blur(side: int, kernel: np.ndarray) -> LinearOperator:
    """Return the convolution with a kernel (odd, odd), normalised; beyond its border the image goes on as it ends."""
    weights = torch.from_numpy(kernel / kernel.sum())[None, None]
    reach = (kernel.shape[1] // 2,) * 2 + (kernel.shape[0] // 2,) * 2

    def forward(x: Tensor) -> Tensor:
        padded = functional.pad(_image(x, side), reach, mode="replicate")
        return functional.conv2d(padded, weights.to(x)).flatten(1)

    return from_forward(forward, side**2)


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value!r}")
    return value


def _fraction(name: str, value: float) -> float:
    if not 0 < value <= 1:
        raise ValueError(f"{name} must lie in (0, 1], got {value!r}")
    return value
