r"""Step-size rules of posterior guidance: the length of :math:`x \leftarrow x - \eta\, g`, per sample.

================  =========================================================================================
``constant``      :math:`\eta` = scale
``normalised``    :math:`\eta` = scale :math:`/ |g|`: every update has the length ``scale``
``dps``           :math:`\eta` = scale :math:`/ \sqrt{2L}`, the gradient of the residual's norm :math:`\sqrt{2L}`
                  in place of that of the loss. DPS (arXiv 2209.14687, algorithm 1) follows
                  :math:`\zeta' \nabla |r|^2 / |r|`; for :math:`L = |r|^2 / 2 v^2` that is scale = 2 v zeta'. Its
                  code follows :math:`\zeta' \nabla |r|`, without the factor 2: scale = v zeta'
``likelihood``    :math:`\eta` = scale :math:`\lambda`, with lambda that of a DDIM step
                  (``analysis.guidance.likelihood``): for :math:`L = -\log p(y | x_1)` and scale 1 the steps follow
                  the ODE of the posterior, with -g in place of the likelihood score
``bounded``       the same, but no update is longer than the path's own change in the step,
                  :math:`\sqrt d\,(\sigma_t - \sigma_s + \alpha_s - \alpha_t)`. Early steps of a learned noise
                  predictor, whose error is divided by alpha, or of a loss that is no likelihood, stay in range
================  =========================================================================================

A rule is a function of a ``Move`` in ``RULES``. With several inner iterations each takes its share of a likelihood
step. Where alpha = 0, at time 0 of most paths, lambda is infinite. The exact likelihood score is 0 there, but the
gradient of a lookahead is not: such a step gets no update, which changes the limit of many steps by nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis import checks
from analysis.guidance.likelihood import ddim_scale
from analysis.norms import norms, widened
from analysis.paths import AffinePath


@dataclass(frozen=True)
class Move:
    """The arguments of a rule: one update and its step.

    Attributes
    ----------
    gradient, value : (B, *event) and (B,), the guidance gradient and the loss where it was taken
    path, t, s : the path, the times at which the step starts and ends, each ()
    scale : the user's factor
    inner : inner iterations per step
    """

    gradient: Tensor
    value: Tensor
    path: AffinePath
    t: Tensor
    s: Tensor
    scale: float
    inner: int


Rule = Callable[[Move], Tensor]


def constant(move: Move) -> Tensor:
    """Return the scale (B,)."""
    return torch.full_like(widened(move.value), move.scale)


def normalised(move: Move) -> Tensor:
    """Return the scale over the gradient's norm (B,), and 0 where that is 0."""
    size = norms(move.gradient)
    return torch.where(size > 0, move.scale / size, 0.0)


def dps(move: Move) -> Tensor:
    """Compute the scale over sqrt(2 L), and 0 where the loss is 0.

    Returns
    -------
    Tensor
        (B,).

    Raises
    ------
    ValueError
        For a negative loss.
    """
    if bool((move.value < 0).any()):
        raise ValueError(f"loss must not be negative for the rule 'dps', got {float(move.value.min()):.6g}")
    return torch.where(move.value > 0, move.scale / (2 * widened(move.value)).sqrt(), 0.0)


def likelihood(move: Move) -> Tensor:
    """Return scale times lambda of the DDIM step (B,), over the inner iterations; 0 where alpha = 0."""
    step = ddim_scale(move.path, move.t, move.s) * move.scale / move.inner
    return torch.where(move.path.alpha(move.t) > 0, step, 0.0).to(widened(move.value)).expand_as(move.value)


def bounded(move: Move) -> Tensor:
    """Return the likelihood step (B,), or the one whose update is as long as the path's own change in the step."""
    path, length = move.path, norms(move.gradient)
    change = path.sigma(move.t) - path.sigma(move.s) + path.alpha(move.s) - path.alpha(move.t)
    most = move.gradient[0].numel() ** 0.5 * change.to(length) / move.inner
    return torch.where(length > 0, torch.minimum(likelihood(move), most / length), 0.0)


RULES: checks.Registry[Rule] = checks.Registry(
    "rule", {rule.__name__: rule for rule in (constant, normalised, dps, likelihood, bounded)}
)
