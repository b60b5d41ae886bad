r"""The variables in which a solver can step.

In each of them the flow's ODE reads :math:`dy/dc = f` for a scaled state :math:`y = x/k` and a readout f
(arXiv 2502.08006, proposition on the exact solution; Lu et al. 2022, arXiv 2211.01095, for the exponential form):

==========  ============  =======  ====================  ============================
coordinate  c             k        f                     singular at
==========  ============  =======  ====================  ============================
``t``       t             1        velocity              where alpha' or sigma' is
``zeta``    sigma/alpha   alpha    source x0hat          alpha = 0 (c infinite)
``gamma``   alpha/sigma   sigma    target x1hat          sigma = 0 (c infinite)
``logsnr``  log gamma     sigma    gamma x1hat           alpha = 0 and sigma = 0
==========  ============  =======  ====================  ============================

Stepping y integrates the linear part of the ODE exactly, so all but the first are exponential integrators; ``logsnr``
is the integrating-factor form in the half log-SNR.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.paths import AffinePath, Readout


@dataclass(frozen=True)
class Coordinate:
    """A variable c(t), its inverse, the scale k(t) of the state and the readout that equals dy/dc."""

    value: Callable[[AffinePath, Tensor], Tensor]
    time: Callable[[AffinePath, Tensor], Tensor]
    scale: Callable[[AffinePath, Tensor], Tensor]
    readout: Callable[[AffinePath, Tensor], Readout]


COORDINATES = {
    "t": Coordinate(
        lambda path, t: t,
        lambda path, c: c,
        lambda path, t: torch.ones_like(t),
        lambda path, t: path.readout("velocity", t),
    ),
    "zeta": Coordinate(
        lambda path, t: path.zeta(t),
        lambda path, c: path.time_from_zeta(c),
        lambda path, t: path.alpha(t),
        lambda path, t: path.readout("source", t),
    ),
    "gamma": Coordinate(
        lambda path, t: path.gamma(t),
        lambda path, c: path.time_from_gamma(c),
        lambda path, t: path.sigma(t),
        lambda path, t: path.readout("target", t),
    ),
    "logsnr": Coordinate(
        lambda path, t: path.log_snr(t),
        lambda path, c: path.time_from_log_snr(c),
        lambda path, t: path.sigma(t),
        lambda path, t: path.combination(path.gamma(t), torch.zeros_like(t), t),
    ),
}
