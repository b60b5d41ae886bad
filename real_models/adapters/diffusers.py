r"""A diffusers model with its scheduler as a flow (https://github.com/huggingface/diffusers).

**Schedulers with ``alphas_cumprod``** (DDPM, DDIM and those that share their training): the network was trained at
timesteps n = 0, ..., N - 1 with :math:`\alpha = \sqrt{\bar\alpha_n}`, :math:`\sigma = \sqrt{1 - \bar\alpha_n}`. The
flow's own path runs through these points at t = 1 - n/(N - 1): the angle :math:`\arctan(\alpha/\sigma)`, a function of
the log-SNR that is finite even where the last :math:`\bar\alpha` is zero, is interpolated by a cubic spline in n. It is
exact at the timesteps; between them the network is asked at fractional ones. The path ends at timestep 0, with the
noise :math:`\sqrt{1 - \bar\alpha_0}` left (0.01, mostly), as the network knows no less.

**Flow matching** (``FlowMatchEulerDiscreteScheduler``): :math:`x = (1 - s) X_1 + s X_0`, the timestep is N s, and the
network predicts dx/ds, noise minus data: the CondOT path with t = 1 - s and the sign turned. The scheduler's ``shift``
only says at which s its own solver steps.

What a scheduler does when it samples (clipping, thresholding, spacing of steps) is no part of the flow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from analysis import checks
from analysis.flow import PredictionFlow
from analysis.paths import AffinePath, CondOT
from real_models.adapters.adapter import Adapter, Clock, event, network_flow, required
from real_models.adapters.schedules import SchedulePath

FLOW_MATCHING = "flow_prediction"
STANDS_FOR_ZERO = 2.0**-24
PREDICTIONS = {"epsilon": "source", "sample": "target", "v_prediction": "velocity", FLOW_MATCHING: "velocity"}


def flow(
    network: Callable[..., Any],
    scheduler: Any,
    *,
    path: AffinePath | None = None,
    event_shape: Sequence[int] | None = None,
    flat: bool = False,
    conditioning: Mapping[str, Any] | None = None,
) -> PredictionFlow:
    """Return the flow of ``network(x, timestep, **conditioning)``, what the scheduler's ``prediction_type`` says.

    Parameters
    ----------
    network : ``UNet2DModel`` or any other that returns a tensor, a tuple that begins with one, or ``.sample``. Where
        the scheduler says that the variance is learned, the second half of the channels is cut off.
    scheduler : the one it was trained with; see the module's docstring
    path : the path of the flow; by default the scheduler's own
    event_shape, flat : the event that the network takes, and whether the flow's events are flat instead
    conditioning : its further arguments, such as ``encoder_hidden_states``: 1 row or one per sample

    Timesteps arrive with shape (B,) in the dtype of x, float32 at least. diffusers' own time embeddings compute in
    float32 whatever the network's dtype: no reference finer than about 1e-6 converges on them. A noise predictor whose
    schedule ends in pure noise is not asked there, where noise tells nothing, but one timestep before.

    Raises
    ------
    ImportError : without diffusers; the message has the line that installs it
    ValueError : for a prediction type or scheduler that is not known
    """
    mixin = required("diffusers").SchedulerMixin
    if not isinstance(scheduler, mixin):
        raise ValueError(f"scheduler must be one of diffusers' schedulers, got {type(scheduler).__name__}")
    kind = prediction_type(scheduler)
    own, clock, weight = _flow_matching(scheduler) if kind == FLOW_MATCHING else _discrete(scheduler, kind)
    learned = getattr(scheduler.config, "variance_type", None) in ("learned", "learned_range")
    adapter = Adapter(
        network,
        clock,
        call=_with_variance if learned else _sample,
        weight=weight,
        event_shape=event_shape,
        conditioning=conditioning,
    )
    singular = kind == "epsilon" and bool(own.alpha(0.0) == 0)
    first = 1 / (len(scheduler.alphas_cumprod) - 1) if singular else 0.0
    return network_flow(adapter, own, PREDICTIONS[kind], path, t_min=first, event_shape=event(event_shape, flat))


def prediction_type(scheduler: Any) -> str:
    """Return what a network trained with this scheduler predicts, a key of ``PREDICTIONS``.

    Raises ``ValueError`` for a prediction type or scheduler that is not known; the message names it.
    """
    if type(scheduler).__name__.startswith("FlowMatch"):
        return FLOW_MATCHING
    kind = getattr(scheduler.config, "prediction_type", None)
    kind = checks.known("the scheduler's prediction_type", kind, PREDICTIONS)
    if kind != FLOW_MATCHING and not isinstance(getattr(scheduler, "alphas_cumprod", None), Tensor):
        raise ValueError(
            f"scheduler must have alphas_cumprod or be a flow-matching one, which {type(scheduler).__name__} is not; "
            "networks with EDM's preconditioning belong to real_models.adapters.edm"
        )
    return kind


def discrete_path(alphas_cumprod: Tensor) -> SchedulePath:
    """Return the variance-preserving path through (sqrt(a_n), sqrt(1 - a_n)) at t = 1 - n/(N - 1), n = 0, ..., N - 1.

    With ``rescale_betas_zero_snr`` the last a_n is zero, but some schedulers put 2^-24 in its place, for their own
    divisions, which may be more than the number before it: that is read as the zero that it stands for.

    Raises ``ValueError`` unless the a_n lie in [0, 1) and decrease strictly.
    """
    a = alphas_cumprod.detach().cpu().double().numpy().copy()
    if a.ndim == 1 and len(a) and a[-1] == STANDS_FOR_ZERO:
        a[-1] = 0.0
    if a.ndim != 1 or len(a) < 4 or not (np.all((a >= 0) & (a < 1)) and np.all(np.diff(a) < 0)):
        raise ValueError("alphas_cumprod must be at least four numbers in [0, 1) that decrease strictly")
    angle = _spline(np.arctan2(np.sqrt(a), np.sqrt(1 - a))[::-1])

    return SchedulePath(
        lambda t: torch.sin(angle(t, 0)),
        lambda t: torch.cos(angle(t, 0)),
        lambda t: torch.cos(angle(t, 0)) * angle(t, 1),
        lambda t: -torch.sin(angle(t, 0)) * angle(t, 1),
    )


def _spline(values: np.ndarray) -> Callable[[Tensor, int], Tensor]:
    """Return the cubic spline through values at equal distances over [0, 1], and its derivative (order 1)."""
    pieces = len(values) - 1
    made = CubicSpline(np.linspace(0, 1, len(values)), values)
    coefficients = [torch.as_tensor(c) for c in (made.c, made.derivative().c)]

    def evaluate(t: Tensor, order: int) -> Tensor:
        # In torch and not in numpy, which cannot see inside a forward-mode derivative.
        piece = (t * pieces).long().clamp(0, pieces - 1)
        rest, value = t - piece.to(t) / pieces, torch.zeros_like(t)
        for c in coefficients[order].to(t)[:, piece]:
            value = value * rest + c
        return value

    return evaluate


def _discrete(scheduler: Any, kind: str) -> tuple[AffinePath, Clock, Clock | None]:
    own, last = discrete_path(scheduler.alphas_cumprod), len(scheduler.alphas_cumprod) - 1

    def weight(t: Tensor) -> Tensor:
        # v = alpha x0hat - sigma x1hat, and with (alpha, sigma) on the unit circle the velocity is a multiple of it.
        return own.d_sigma(t) * own.alpha(t) - own.d_alpha(t) * own.sigma(t)

    return own, lambda t: last * (1 - t), weight if kind == "v_prediction" else None


def _flow_matching(scheduler: Any) -> tuple[AffinePath, Clock, Clock | None]:
    steps = scheduler.config.num_train_timesteps
    if getattr(scheduler.config, "invert_sigmas", False):  # Mochi's: timesteps count from noise, and so does dx/ds
        return CondOT(), lambda t: steps * t, None
    return CondOT(), lambda t: steps * (1 - t), lambda t: -torch.ones_like(t)


def _sample(network: Callable[..., Any], x: Tensor, time: Tensor, **conditioning: Any) -> Any:
    found = network(x, time, **conditioning)
    if isinstance(found, Tensor):
        return found
    return found[0] if isinstance(found, tuple) else getattr(found, "sample", None)


def _with_variance(network: Callable[..., Any], x: Tensor, time: Tensor, **conditioning: Any) -> Any:
    found = _sample(network, x, time, **conditioning)
    return found[:, : x.shape[1]] if isinstance(found, Tensor) and found.shape[1] == 2 * x.shape[1] else found
