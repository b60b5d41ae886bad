r"""Inverse problems of the digits: six linear measurements from ``analysis.operators``, and two nonlinear ones.

Images are flat, row-major, 28 x 28, with pixels in [-1, 1]; a measurement is :math:`y = A(x) + \mathrm{noise}\,N(0, I)`
and its loss the negative log-likelihood :math:`|y - A(x)|^2 / (2\,\mathrm{noise}^2)`, linear or not.

- ``hdr_clipping``: :math:`A(x) = \mathrm{clip}(2x, -1, 1)`, the high-dynamic-range problem of Mardani et al. (2023,
  arXiv 2305.04391): the sensor saturates beyond half of the range, and where it does the likelihood has no gradient.
- ``nonlinear_blur``: light is blurred, not pixel values. Pixels are logarithms of light over a range of
  :math:`e^{2a}`, which a lens spreads and a film with saturating response records:

  .. math:: \ell = \frac{e^{ax} - e^{-a}}{e^a - e^{-a}}, \qquad b = k * \ell, \qquad
            y = 2\,\frac{1 - e^{-cb}}{1 - e^{-c}} - 1,

  with a = 1, c = 2 and k Gaussian. It is smooth for every real x, as the states of a guided sampler ask for, and maps
  -1 and 1 to themselves. The nonlinear blur on which posterior sampling is usually judged (Tran et al. 2021, arXiv
  2104.00317, as used by Chung et al. 2023, arXiv 2209.14687) is a pretrained network that is not available here; this
  one replaces it, so numbers on the two must not be compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis import checks
from analysis.losses import HalfSquaredResidual, Loss
from analysis.operators import OPERATORS, LinearOperator, Map, gaussian_deblurring
from toy_models.problems.mnist import SIDE

GAIN = 2.0
LIGHT, FILM, BLUR = 1.0, 2.0, 1.5  # a, c, and the deviation of k in pixels
BRIGHTEST = 40.0  # a x from which the film is saturated to round-off wherever any of the light falls
LINEAR = tuple(name for name in OPERATORS if name != "compressed_sensing")
RANGE_TOLERANCE = 1e-6  # by how much float32 pixels may leave [-1, 1]


@dataclass(frozen=True)
class NonlinearOperator:
    """A differentiable map of flat images (B, in_dim) -> (B, out_dim)."""

    forward: Map
    in_dim: int
    out_dim: int

    def __call__(self, x: Tensor) -> Tensor:
        """Return A(x), (B, m), for x (B, d)."""
        if x.ndim != 2 or x.shape[1] != self.in_dim:
            raise ValueError(f"x must have shape (B, {self.in_dim}), got {tuple(x.shape)}")
        return self.forward(x)


def hdr_clipping(side: int, gain: float = GAIN) -> NonlinearOperator:
    """Clip ``gain`` times the pixels to [-1, 1]."""
    if not 1 < gain < math.inf:
        raise ValueError(f"gain must be above 1, so that something is clipped, and finite; got {gain!r}")
    return NonlinearOperator(lambda x: (gain * x).clamp(-1, 1), side**2, side**2)


def nonlinear_blur(side: int, width: float = BLUR) -> NonlinearOperator:
    """Blur the light of which pixels are the logarithm, and record it on a film that saturates."""
    blur, darkest = gaussian_deblurring(side, width), math.exp(-LIGHT)
    span = math.exp(LIGHT) - darkest

    def forward(x: Tensor) -> Tensor:
        light = blur(((LIGHT * x).clamp(max=BRIGHTEST).exp() - darkest) / span)  # as exp overflows at lost samples
        return 2 * (-torch.expm1(-FILM * light)) / -math.expm1(-FILM) - 1

    return NonlinearOperator(forward, side**2, side**2)


NONLINEAR: dict[str, Callable[..., NonlinearOperator]] = {f.__name__: f for f in (hdr_clipping, nonlinear_blur)}
NAMES = (*LINEAR, *NONLINEAR)


@dataclass(frozen=True)
class HalfSquaredMisfit:
    """L(x) = |A(x) - y|^2 / (2 noise^2) for any differentiable A; y is (m,) or (B, m)."""

    operator: Callable[[Tensor], Tensor]
    measurement: Tensor
    noise: float

    def __call__(self, x: Tensor) -> Tensor:
        """Return (B,) losses of x (B, d)."""
        predicted, y = self.operator(x), self.measurement.to(x)
        if y.shape not in (predicted.shape, predicted.shape[1:]):
            raise ValueError(f"measurement must fit A(x), {tuple(predicted.shape)}, got {tuple(y.shape)}")
        return (predicted - y).square().sum(-1) / (2 * self.noise**2)


@dataclass(frozen=True)
class ImageProblem:
    """A named measurement of digits with its noise, in units of y."""

    name: str
    operator: LinearOperator | NonlinearOperator
    noise: float

    def measure(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return noisy measurements (B, m) of images (B, 784), drawn with an explicit CPU generator."""
        clean = self.operator(checked_images(images))
        return clean + self.noise * torch.randn(clean.shape, dtype=torch.float64, generator=generator).to(clean)

    def loss(self, y: Tensor) -> Loss:
        """Return the negative log-likelihood of measurements y (B, m), but for a constant."""
        if isinstance(self.operator, LinearOperator):
            return HalfSquaredResidual(self.operator.matrix(), y, noise=self.noise)
        return HalfSquaredMisfit(self.operator, y, self.noise)

    def shown(self, y: Tensor) -> Tensor:
        """Return measurements (B, m) as images (B, 784): by the pseudo-inverse, or y itself where A is not linear."""
        if isinstance(self.operator, LinearOperator):
            return y @ torch.linalg.pinv(self.operator.matrix()).T.to(y)
        return y


def checked_images(images: Tensor, name: str = "images") -> Tensor:
    """Return images (B, 784) with pixels in [-1, 1], or raise ``ValueError``."""
    if not isinstance(images, Tensor) or images.ndim != 2 or images.shape[1] != SIDE**2 or not len(images):
        got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"{name} must have shape (B, {SIDE**2}), flat images of {SIDE} x {SIDE} pixels; got {got}")
    largest = float(checks.finite(name, images).abs().max())
    if largest > 1 + RANGE_TOLERANCE:
        raise ValueError(f"{name} must have pixels in [-1, 1], got {largest:.6g} in absolute value")
    return images


def image_problem(name: str, noise: float, **options: float) -> ImageProblem:
    """Return the named problem with a noise level above 0; options are the operator's own."""
    checks.known("name", name, NAMES)
    if isinstance(noise, bool) or not 0 < noise < math.inf:
        raise ValueError(f"noise must be positive and finite, got {noise!r}")
    operator = (NONLINEAR[name] if name in NONLINEAR else OPERATORS[name])(SIDE, **options)
    return ImageProblem(name, operator, noise)
