r"""Two nonlinear measurement operators of square images, flat and row-major, with pixels in [-1, 1].

- ``hdr_clipping``: :math:`A(x) = \mathrm{clip}(2x, -1, 1)`, the high-dynamic-range problem of Mardani et al. (2023,
  arXiv 2305.04391): the sensor saturates beyond half of the range, where the likelihood has no gradient.
- ``nonlinear_blur``: the light is blurred, not the pixel values. Pixels are logarithms of light over a range of
  :math:`e^{2a}`; a lens spreads the light, and a film with a saturating response records it:

  .. math:: \ell = \frac{e^{ax} - e^{-a}}{e^a - e^{-a}}, \qquad b = k * \ell, \qquad
            y = 2\,\frac{1 - e^{-cb}}{1 - e^{-c}} - 1,

  with a = 1, c = 2 and k Gaussian. It is smooth for every real x, as the states of a guided sampler need, and maps
  -1 and 1 to themselves. The nonlinear blur on which posterior sampling is usually evaluated (Tran et al. 2021, arXiv
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
from analysis.operators.images import gaussian_deblurring
from analysis.operators.linear import Map

GAIN = 2.0
LIGHT, FILM, BLUR = 1.0, 2.0, 1.5  # a, c, and the standard deviation of k in pixels
BRIGHTEST = 40.0  # a x from which the film is saturated to round-off wherever any of the light falls


@dataclass(frozen=True)
class NonlinearOperator:
    """A differentiable map of flat images (B, in_dim) -> (B, out_dim)."""

    forward: Map
    in_dim: int
    out_dim: int

    def __call__(self, x: Tensor) -> Tensor:
        """Apply A to x (B, d).

        Returns
        -------
        Tensor
            (B, m).

        Raises
        ------
        ValueError
            For x of another shape.
        """
        if x.ndim != 2 or x.shape[1] != self.in_dim:
            raise ValueError(f"x must have shape (B, {self.in_dim}), got {tuple(x.shape)}")
        return self.forward(x)


def hdr_clipping(side: int, gain: float = GAIN) -> NonlinearOperator:
    """Clip ``gain`` times the pixels to [-1, 1].

    Returns
    -------
    NonlinearOperator
        (B, side^2) to (B, side^2).

    Raises
    ------
    ValueError
        For a gain that is not above 1, or not finite.
    """
    side = checks.count("side", side)
    if not 1 < checks.number("gain", gain) < math.inf:
        raise ValueError(f"gain must be above 1, so that something is clipped, and finite; got {gain!r}")
    return NonlinearOperator(lambda x: (gain * x).clamp(-1, 1), side**2, side**2)


def nonlinear_blur(side: int, width: float = BLUR) -> NonlinearOperator:
    """Blur the light whose logarithm the pixels are, and record it on a film that saturates."""
    blur, darkest = gaussian_deblurring(side, width), math.exp(-LIGHT)
    span = math.exp(LIGHT) - darkest

    def forward(x: Tensor) -> Tensor:
        light = blur(((LIGHT * x).clamp(max=BRIGHTEST).exp() - darkest) / span)  # exp overflows at diverged samples
        return 2 * (-torch.expm1(-FILM * light)) / -math.expm1(-FILM) - 1

    return NonlinearOperator(forward, side**2, side**2)


NONLINEAR: checks.Registry[Callable[..., NonlinearOperator]] = checks.Registry(
    "operator", {f.__name__: f for f in (hdr_clipping, nonlinear_blur)}
)
