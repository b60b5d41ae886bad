"""Samples in a line: unguided, or guided step by step by any estimator's gradient."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis import checks
from analysis.canonical import CANONICAL, canonical_time
from analysis.flow import Flow
from analysis.guidance.dial import Choice
from analysis.guidance.posterior import posterior_guidance
from analysis.guidance.registry import Sample
from analysis.losses import Loss
from analysis.paths import AffinePath

UNGUIDED = ("solver", "divergence")  # options of the sampler that matter without a loss too


def sample(
    flow: Flow,
    x0: Tensor,
    loss: Loss | None = None,
    *,
    steps: int = 32,
    lookahead: Choice = "greedy",
    scale: float = 1.0,
    rule: str = "bounded",
    grid: str | Tensor | None = None,
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
    scale, rule : of the guidance, at least 0, and its meaning: a name in ``step_sizes.RULES``. By default the step of
        the posterior's ODE, but no longer than the path's own change, so that a learned model's early errors stay small
    grid : as ``solvers.grids.time_grid`` takes it; by default equal steps of the canonical path's time, in which every
        path is regular
    **options : further ones of the sampler "posterior_guidance"

    Returns
    -------
    Sample
        With the loss of each sample, the cost, and which of them diverged.

    Raises
    ------
    TypeError, ValueError
        For arguments that the sampler refuses, and for options of guidance without a loss; the message names them.
    """
    checks.flow(flow)
    if grid is None:
        grid = canonical_grid(flow.path, checks.steps(steps))
    if loss is None:
        _refuse_guidance(lookahead=lookahead, scale=scale, rule=rule, **options)
        return posterior_guidance(flow, _nothing, x0, steps=steps, scale=0.0, grid=grid, **options)
    options |= {"steps": steps, "scale": scale, "rule": rule, "lookahead": lookahead, "grid": grid}
    return posterior_guidance(flow, loss, x0, **options)


def _refuse_guidance(**given: Any) -> None:
    """Raise ``ValueError`` for an option of guidance that is not the usual one: without a loss it would do nothing."""
    usual = {**inspect.signature(posterior_guidance).parameters, **inspect.signature(sample).parameters}
    guiding = [name for name in given if name in usual and name not in UNGUIDED]
    named = [name for name in guiding if not np.array_equal(given[name], usual[name].default)]
    if named:
        raise ValueError(f"{' and '.join(named)} can only be given with a loss; without one, samples are not guided")


def canonical_grid(path: AffinePath, steps: int) -> Tensor:
    """Return times (steps + 1,) from 0 to 1 at equal distances in the time of the canonical path."""
    begin, end = (canonical_time(path, torch.tensor(t, dtype=torch.float64)) for t in (0.0, 1.0))
    times = path.time_from_zeta(
        CANONICAL.zeta(begin + (end - begin) * torch.linspace(0, 1, steps + 1, dtype=begin.dtype))
    )
    times[0], times[-1] = 0.0, 1.0
    return times


def _nothing(x: Tensor) -> Tensor:
    return (0 * x).flatten(1).sum(1)
