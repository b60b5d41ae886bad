r"""A network of discrete timesteps (integers, ``nn.Embedding``) at real ones, by interpolation between neighbours.

At a timestep n between two integers the prediction is a cubic (Catmull and Rom 1974) in the predictions at the four
integers around it, at the ends of the range a parabola: exact at the integers, and with a continuous derivative in
time, which adaptive solvers need. A real timestep costs four calls of the network in one batch, an integer one as many.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from analysis import checks
from analysis.paths import expand
from real_models.adapters.adapter import Call, call

CALLS = 4


class Interpolated(nn.Module):
    """A network that takes integer timesteps 0, ..., N - 1, asked at real ones (B,).

    Parameters
    ----------
    network : ``(x (B, *event), n (B,) int64, **conditioning)`` -> a tensor like x
    timesteps : N, at least 4
    call : ``(network, x, n, **conditioning)`` -> its prediction

    Raises
    ------
    ValueError
        For fewer than four timesteps, and for a network that is not callable.
    """

    def __init__(self, network: Callable[..., Any], timesteps: int, call: Call = call) -> None:
        super().__init__()
        self.call = call
        self.network, self.timesteps = checks.function(network, "network"), checks.count("timesteps", timesteps)
        if self.timesteps < CALLS:
            raise ValueError(f"timesteps must be at least {CALLS}, got {timesteps}")

    def forward(self, x: Tensor, time: Tensor, **conditioning: Any) -> Any:
        """Return the prediction at states x (B, *event) and real timesteps (B,), like x."""
        last = self.timesteps - 1
        first = time.detach().floor().long().clamp(0, last - 1)
        weights = _weights(time - first, first == 0, first == last - 1)
        around = torch.stack([(first + k).clamp(0, last) for k in (-1, 0, 1, 2)])
        repeated = {name: _repeated(value, len(x)) for name, value in conditioning.items()}
        states = x.repeat(CALLS, *[1] * (x.ndim - 1))
        said = self.call(self.network, states, around.flatten(), **repeated)
        if not isinstance(said, Tensor) or said.shape != states.shape:
            return said  # for the adapter to refuse
        values = said.view(CALLS, *x.shape)
        return sum((expand(w, v) * v for w, v in zip(weights, values, strict=True)), torch.zeros_like(x))


def interpolated(network: Callable[..., Any], timesteps: int, call: Call = call) -> Callable[..., Any]:
    """Return the interpolated network; a function stays one, as it has no copy in another dtype."""
    made = Interpolated(network, timesteps, call)
    return made if isinstance(network, nn.Module) else lambda x, time, **conditioning: made(x, time, **conditioning)


def _weights(u: Tensor, starts: Tensor, ends: Tensor) -> list[Tensor]:
    """Return the weights (B,) of the predictions at n - 1, n, n + 1 and n + 2, for a share u in [0, 1] of the way on.

    Slopes at both nodes are half the difference of their neighbours; at the first and the last node, where one is
    missing, that of the parabola through three nodes.

    Returns
    -------
    list[Tensor]
        Four weights, each (B,).
    """
    left, right = (2 * u**3 - 3 * u**2 + 1, u**3 - 2 * u**2 + u), (-2 * u**3 + 3 * u**2, u**3 - u**2)
    zero, half = torch.zeros_like(u), torch.full_like(u, 0.5)
    # Slopes as combinations of the four values: (f1 - f-1)/2, and one-sided (-3 f0 + 4 f1 - f2)/2.
    inner0, inner1 = (-half, zero, half, zero), (zero, -half, zero, half)
    edge0, edge1 = (zero, -3 * half, 4 * half, -half), (half, -4 * half, 3 * half, zero)
    slope0 = [torch.where(starts, e, i) for e, i in zip(edge0, inner0, strict=True)]
    slope1 = [torch.where(ends, e, i) for e, i in zip(edge1, inner1, strict=True)]
    value = (zero, left[0], right[0], zero)
    return [v + left[1] * a + right[1] * b for v, a, b in zip(value, slope0, slope1, strict=True)]


def _repeated(value: Any, batch: int) -> Any:
    """Return a conditioning of all samples, repeated as the states are; what has one row stays."""
    rows = isinstance(value, Tensor) and value.ndim > 0 and len(value) == batch
    return value.repeat(CALLS, *[1] * (value.ndim - 1)) if rows else value
