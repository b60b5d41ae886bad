r"""A diffusers model with its scheduler as a flow (https://github.com/huggingface/diffusers).

**Schedulers with ``alphas_cumprod``** (DDPM, DDIM and those that share their training): the network was trained at
timesteps n = 0, ..., N - 1 with :math:`\alpha = \sqrt{\bar\alpha_n}`, :math:`\sigma = \sqrt{1 - \bar\alpha_n}`. The
flow's own path passes through these points at t = 1 - n/(N - 1), as ``analysis.paths.from_alphas_cumprod`` says;
between them the network is called at fractional timesteps. The path ends at timestep 0 with the noise
:math:`\sqrt{1 - \bar\alpha_0}` left (usually 0.01), the least on which the network was trained.

**Flow matching** (``FlowMatchEulerDiscreteScheduler``): :math:`x = (1 - s) X_1 + s X_0`, the timestep is N s, and the
network predicts dx/ds, noise minus data. This is the CondOT path with t = 1 - s and the sign of the velocity reversed.
The scheduler's ``shift`` only chooses the s at which its own solver steps.

Clipping, thresholding and the spacing of steps belong to the scheduler's sampler and are not part of the flow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from analysis import checks
from analysis.flow import PredictionFlow
from analysis.paths import AffinePath, CondOT, from_alphas_cumprod
from real_models.adapters.adapter import Adapter, Clock, call, event, network_flow, required
from real_models.adapters.discrete import interpolated

FLOW_MATCHING = "flow_prediction"
PREDICTIONS = {"epsilon": "source", "sample": "target", "v_prediction": "velocity", FLOW_MATCHING: "velocity"}


def flow(
    network: Callable[..., Any],
    scheduler: Any,
    *,
    path: AffinePath | None = None,
    event_shape: Sequence[int] | None = None,
    flat: bool = False,
    conditioning: Mapping[str, Any] | None = None,
    integer_timesteps: bool = False,
) -> PredictionFlow:
    """Make the flow of ``network(x, timestep, **conditioning)``, which predicts what ``prediction_type`` states.

    Timesteps arrive with shape (B,) in the dtype of x, at least float32. The time embeddings of diffusers compute in
    float32 whatever the network's dtype, so no reference converges on them beyond about 1e-6. Where the schedule ends
    in pure noise, a noise predictor carries no information; it is called one timestep before that end.

    Parameters
    ----------
    network : ``UNet2DModel`` or any other that returns a tensor, a tuple that begins with one, or ``.sample``. Where
        the scheduler says that the variance is learned, the second half of the channels is cut off.
    scheduler : the one it was trained with; see the module's docstring
    path : the path of the flow; by default the scheduler's own
    event_shape, flat : the event shape that the network takes, and whether the flow's events are flat instead
    conditioning : its further arguments, such as ``encoder_hidden_states``: 1 row or one per sample
    integer_timesteps : whether the network takes integers alone, as with ``nn.Embedding``; between them its predictions
        are interpolated, as ``adapters.discrete`` says

    Returns
    -------
    PredictionFlow
        With states (B, *event).

    Raises
    ------
    ImportError
        Without diffusers; the message has the line that installs it.
    ValueError
        For an unknown prediction type or scheduler.
    """
    mixin = required("diffusers").SchedulerMixin
    if not isinstance(scheduler, mixin):
        raise ValueError(f"scheduler must be one of diffusers' schedulers, got {type(scheduler).__name__}")
    kind = prediction_type(scheduler)
    own, clock, weight = _flow_matching(scheduler) if kind == FLOW_MATCHING else _discrete(scheduler, kind)
    learned = getattr(scheduler.config, "variance_type", None) in ("learned", "learned_range")
    asked = _with_variance if learned else _sample
    if integer_timesteps:
        network, asked = interpolated(network, scheduler.config.num_train_timesteps, asked), call
    adapter = Adapter(
        network,
        clock,
        call=asked,
        weight=weight,
        event_shape=event_shape,
        conditioning=conditioning,
    )
    singular = kind == "epsilon" and bool(own.alpha(0.0) == 0)
    first = 1 / (len(scheduler.alphas_cumprod) - 1) if singular else 0.0
    return network_flow(adapter, own, PREDICTIONS[kind], path, t_min=first, event_shape=event(event_shape, flat))


def prediction_type(scheduler: Any) -> str:
    """Return the quantity that a network trained with this scheduler predicts, a key of ``PREDICTIONS``.

    Returns
    -------
    str
        The key.

    Raises
    ------
    ValueError
        For an unknown prediction type or scheduler, which the message names.
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


def _discrete(scheduler: Any, kind: str) -> tuple[AffinePath, Clock, Clock | None]:
    own, last = from_alphas_cumprod(scheduler.alphas_cumprod), len(scheduler.alphas_cumprod) - 1

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
    output = network(x, time, **conditioning)
    if isinstance(output, Tensor):
        return output
    return output[0] if isinstance(output, tuple) else getattr(output, "sample", None)


def _with_variance(network: Callable[..., Any], x: Tensor, time: Tensor, **conditioning: Any) -> Any:
    output = _sample(network, x, time, **conditioning)
    return output[:, : x.shape[1]] if isinstance(output, Tensor) and output.shape[1] == 2 * x.shape[1] else output
