"""Samples in a line: unguided, or guided step by step by any estimator's gradient."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from analysis.flow import Flow
from analysis.guidance.dial import Choice
from analysis.guidance.posterior import posterior_guidance
from analysis.guidance.registry import Sample
from analysis.losses import Loss


def sample(
    flow: Flow,
    x0: Tensor,
    loss: Loss | None = None,
    *,
    steps: int = 32,
    lookahead: Choice = "greedy",
    scale: float = 1.0,
    **options: Any,
) -> Sample:
    """Return samples of a flow, guided by a loss if there is one; ``Sample.x`` holds them.

    Parameters
    ----------
    flow : any flow
    x0 : (B, *event), noise at time 0: normal, with the standard deviation ``flow.path.sigma(0)``
    loss : maps x (B, *event) to (B,). Minus the log-likelihood of a measurement, with scale 1, follows the posterior's
        ODE; another loss needs a scale that is found by trying
    steps : of the solve from time 0 to time 1, by DDIM
    lookahead : estimator of the guidance gradient: a name in ``LADDER`` or ``ESTIMATORS``, or (name, options), as in
        ``("adaptive", {"tolerance": 0.1})``
    scale : of the guidance, at least 0
    **options : further ones of the sampler "posterior_guidance", such as its step rule

    Returns
    -------
    Sample
        With the loss of each sample, the cost, and which of them diverged.

    Raises
    ------
    TypeError, ValueError
        For arguments that the sampler refuses; the message names them.
    """
    if loss is None:
        return posterior_guidance(flow, _nothing, x0, steps=steps, scale=0.0, **options)
    return posterior_guidance(flow, loss, x0, steps=steps, scale=scale, lookahead=lookahead, **options)


def _nothing(x: Tensor) -> Tensor:
    return (0 * x).flatten(1).sum(1)
