r"""An EDM-preconditioned network as a flow (Karras et al. 2022, arXiv 2206.00364; github.com/NVlabs/edm).

A network of this kind is a denoiser D(x; sigma) on :math:`x = X_1 + \sigma X_0`, so its sigma is :math:`\zeta`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from analysis import checks
from analysis.flow import PredictionFlow
from analysis.paths import AffinePath, VarianceExploding, expand
from real_models.adapters.adapter import Adapter, event, network_flow


def flow(
    network: Callable[..., Tensor],
    *,
    path: AffinePath | None = None,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    event_shape: Sequence[int] | None = None,
    flat: bool = False,
    conditioning: Mapping[str, Any] | None = None,
) -> PredictionFlow:
    """Make the flow of ``network(x, sigma, **conditioning)``, a denoiser with sigma of shape (B,).

    Parameters
    ----------
    network : any class of NVlabs/edm's ``training/networks.py`` whose name ends in ``Precond``, or ``Preconditioned``
        below. NVlabs' compute in float32; for float64 use ``Preconditioned(network.model, network.sigma_data)``.
    path : the path of the flow; by default ``VarianceExploding(sigma_max)``. Along another path the network is called
        at sigma = zeta(t) with the state scaled to alpha = 1. Uniform steps serve well on ``CondOT()``.
    sigma_min, sigma_max : the range it was trained on. Beyond it the network is called at the end of the range: at
        t = 1 the state has no noise, and log sigma would be infinite.
    event_shape, flat : the event shape that the network takes, and whether the flow's events are flat instead
    conditioning : its further arguments, such as ``class_labels``: 1 row or one per sample

    Returns
    -------
    PredictionFlow
        With states (B, *event).

    Raises
    ------
    ValueError
        Unless 0 < sigma_min < sigma_max < infinity; when called, for a prediction of another shape or dtype.
    """
    sigma_min, sigma_max = checks.positive("sigma_min", sigma_min), checks.positive("sigma_max", sigma_max)
    if not sigma_min < sigma_max:
        raise ValueError(f"sigma_min, sigma_max must satisfy 0 < sigma_min < sigma_max, got {sigma_min}, {sigma_max}")
    own = VarianceExploding(sigma_max)
    adapter = Adapter(network, own.sigma, event_shape=event_shape, conditioning=conditioning)
    last = float(own.time_from_zeta(sigma_min))
    return network_flow(adapter, own, "target", path, t_max=last, event_shape=event(event_shape, flat))


class Preconditioned(nn.Module):
    r"""A raw network F as the denoiser D(x; sigma) = c_skip x + c_out F(c_in x; c_noise), of the paper's table 1.

    With s the standard deviation of the data and :math:`r = \sqrt{\sigma^2 + s^2}`: c_skip = s^2/r^2, c_out = sigma
    s/r, c_in = 1/r, and c_noise = log(sigma)/4, of shape (B,), is passed to F as its time.

    Raises
    ------
    ValueError
        For a ``sigma_data`` that is not positive and finite, or a network that is not callable.
    """

    def __init__(self, network: Callable[..., Tensor], sigma_data: float = 0.5) -> None:
        super().__init__()
        self.network, self.sigma_data = checks.function(network, "network"), checks.positive("sigma_data", sigma_data)

    def forward(self, x: Tensor, sigma: Tensor, **conditioning: Any) -> Tensor:
        """Return the denoised x (B, *event) at noise levels sigma (B,)."""
        s = self.sigma_data
        radius = torch.hypot(sigma, torch.full_like(sigma, s))
        raw = self.network(expand(1 / radius, x) * x, (sigma.log() / 4).to(x.dtype), **conditioning)
        return expand((s / radius).square(), x) * x + expand(sigma * s / radius, x) * raw
