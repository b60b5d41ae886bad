"""Any network as a flow, described by its path, its prediction, and its conventions of time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from analysis import checks
from analysis.flow import PredictionFlow, usable_times
from analysis.paths import AffinePath
from real_models.adapters.adapter import Adapter, event, network_flow
from real_models.adapters.discrete import interpolated

DIRECTIONS = ("noise_to_data", "data_to_noise")


def flow(
    network: Callable[..., Tensor],
    path: AffinePath,
    *,
    prediction: str = "velocity",
    time: str = "noise_to_data",
    time_scale: float | None = None,
    timesteps: int | None = None,
    time_shape: str = "batch",
    event_shape: Sequence[int] | None = None,
    flat: bool = False,
    conditioning: Mapping[str, Any] | None = None,
    t_min: float | None = None,
    t_max: float | None = None,
) -> PredictionFlow:
    """Make the flow of ``network(x, time, **conditioning)``.

    Parameters
    ----------
    network : an ``nn.Module`` or function that returns a tensor like x
    path : the path it was trained on, in this package's time, from noise (0) to data (1)
    prediction : "velocity", "target" (a denoiser), "source" (a noise predictor) or "score"
    time : "noise_to_data", the time of this package, or "data_to_noise", s = 1 - t, as in diffusion models: their
        velocity dx/ds points from data to noise, and its sign is reversed
    time_scale : the network receives ``time_scale`` times its time (1000, say), by default 1; its velocity is still per
        unit of time
    timesteps : N, of a network that takes discrete timesteps, the integers 0, ..., N - 1, at times n/(N - 1); between
        them its predictions are interpolated, as ``adapters.discrete`` says
    time_shape : "batch" (B,), "column" (B, 1), or "scalar" (), one call for each distinct time
    event_shape : the event shape that the network takes; other states are refused
    flat : whether the flow's events are flat, (prod(event_shape),) in row-major order
    conditioning : further keyword arguments; a tensor among them has 1 row or one per sample; a label of all
        samples is ``tensor([3])``
    t_min, t_max : the range of times at which the network is called; times outside are moved to its ends. By default
        all of [0, 1], less 1e-3 at an end where the prediction does not determine the velocity: a denoiser where
        sigma = 0, a noise predictor or score where alpha = 0 or sigma' is infinite.

    Returns
    -------
    PredictionFlow
        With states (B, *event).

    Raises
    ------
    ValueError
        For an unknown convention or a ``time_scale`` that is not positive; when called, for a prediction of another
        shape or dtype.
    """
    checks.known("time", time, DIRECTIONS)
    if timesteps is not None:
        if time_scale is not None or time_shape != "batch":
            raise ValueError("time_scale and time_shape must be left out with timesteps: they follow from it")
        network, time_scale = interpolated(network, timesteps), timesteps - 1
    time_scale = checks.positive("time_scale", 1.0 if time_scale is None else time_scale)
    backward = time == "data_to_noise"
    adapter = Adapter(
        network,
        lambda t: time_scale * (1 - t if backward else t),
        weight=_turned if backward and prediction == "velocity" else None,
        time_shape=time_shape,
        event_shape=event_shape,
        conditioning=conditioning,
        half_times=timesteps is None,
    )
    low, high = usable_times(path, prediction)
    low, high = low if t_min is None else t_min, high if t_max is None else t_max
    return network_flow(adapter, path, prediction, t_min=low, t_max=high, event_shape=event(event_shape, flat))


def _turned(t: Tensor) -> Tensor:
    return -torch.ones_like(t)
