r"""An azula denoiser as a flow (https://github.com/probabilists/azula): ADM, EDM, Stable Diffusion and more by plugin.

azula's time runs from data (0) to noise (1), and its schedule gives alpha and sigma at any time; here t -> 1 - t. Most
of its schedules keep some noise at the data end (sigma_min) and some signal at the noise end (alpha_min). So does the
flow's own path: its endpoint is a sample with noise sigma_min left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from analysis.flow import END, PredictionFlow
from analysis.paths import AffinePath
from real_models.adapters.adapter import Adapter, event, network_flow, required
from real_models.adapters.schedules import SchedulePath

NOTHING = 1e-9  # a scale that is meant to be zero: cos(arccos(0)) is 6e-17

Schedule = Callable[[Tensor], tuple[Tensor, Tensor]]


def flow(
    denoiser: Callable[..., Any],
    *,
    path: AffinePath | None = None,
    event_shape: Sequence[int] | None = None,
    flat: bool = False,
    conditioning: Mapping[str, Any] | None = None,
    t_min: float | None = None,
    t_max: float | None = None,
) -> PredictionFlow:
    """Make the flow of an ``azula.denoise.Denoiser``: ``denoiser(x, time, **conditioning).mean`` is its target.

    ADM and Stable Diffusion round times to a thousand steps: their flow is piecewise smooth in t, and a fine solve
    converges no further than that. ADM's ``clip_mean`` clips the target, and the gradient of a clipped entry is zero.

    Parameters
    ----------
    denoiser : with its noise schedule in ``denoiser.schedule``
    path : the path of the flow; by default that of the schedule. Along another path the denoiser is called at the time
        of equal sigma/alpha, or at the schedule's end where the schedule does not reach it.
    event_shape, flat : the event shape that the denoiser takes, and whether the flow's events are flat instead
    conditioning : its further arguments, such as ``label`` or ``prompt_embeds``: 1 row or one per sample
    t_min, t_max : the range of the schedule's times, from noise (0) to data (1), at which the denoiser is called; times
        outside are moved to its ends. By default all of [0, 1], less 1e-3 at an end where alpha = 0 or sigma = 0: the
        denoisers divide by these scales or take their logarithm.

    Returns
    -------
    PredictionFlow
        With states (B, *event).

    Raises
    ------
    ImportError
        Without azula; the message has the line that installs it.
    ValueError
        For an object that is not a denoiser with a schedule, and for a schedule whose sigma/alpha does not increase in
        azula's time.
    """
    library = required("azula.denoise")
    schedule = getattr(denoiser, "schedule", None)
    if not (callable(denoiser) and callable(schedule)):
        raise ValueError(
            f"denoiser must be an azula.denoise.Denoiser, which has a noise schedule; got {type(denoiser).__name__} "
            "(a plugin's load_model may return a tuple whose first member it is)"
        )
    own = schedule_path(schedule)
    # The analytic denoiser of a Gaussian takes one time per call.
    alone = isinstance(denoiser, library.GaussianDenoiser)
    adapter = Adapter(
        denoiser,
        lambda t: 1 - t,
        call=_mean,
        time_shape="scalar" if alone else "batch",
        event_shape=event_shape,
        conditioning=conditioning,
    )
    low = (END if own.alpha(0.0) < NOTHING else 0.0) if t_min is None else t_min
    high = (1 - END if own.sigma(1.0) < NOTHING else 1.0) if t_max is None else t_max
    return network_flow(adapter, own, "target", path, t_min=low, t_max=high, event_shape=event(event_shape, flat))


def schedule_path(schedule: Schedule) -> SchedulePath:
    """Return the path (alpha, sigma) of an azula noise schedule in this package's time; derivatives are autograd's."""

    def scales(t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = (torch.as_tensor(c).reshape(t.shape).to(t.dtype) for c in schedule(1 - t))
        return alpha, sigma  # reshaped, because azula adds an axis up to 0.2

    return SchedulePath(lambda t: scales(t)[0], lambda t: scales(t)[1], together=scales)


def _mean(denoiser: Callable[..., Any], x: Tensor, time: Tensor, **conditioning: Any) -> Any:
    posterior = denoiser(x, time, **conditioning)
    mean = getattr(posterior, "mean", None)
    if not isinstance(mean, Tensor):
        raise ValueError(f"denoiser must return a posterior with a tensor .mean, got {type(posterior).__name__}")
    return mean.to(x.dtype)  # a schedule in more precision than x promotes it
