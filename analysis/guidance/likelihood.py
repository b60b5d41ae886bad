r"""Guidance by the score of a likelihood: the guided flow, and the scale that step sizes take from it.

**The scale.** A readout :math:`a\hat x_1 + b\hat x_0` is linear in the score: with :math:`\hat x_0 = -\sigma s` and
:math:`\alpha \hat x_1 = x - \sigma\hat x_0 = x + \sigma^2 s`,

.. math:: a\hat x_1 + b\hat x_0 = \frac{a}{\alpha} x + \lambda s, \qquad \lambda = \frac{a\sigma^2}{\alpha} - c,
          \quad c = b\sigma .

By Bayes' rule the score of :math:`p_t(x | y)` is :math:`s + h`, with :math:`h = \nabla_x \log p(y | x_t)`, so every
readout of the posterior's flow is that of the prior's plus :math:`\lambda h`: the velocity (a, b) =
:math:`(\alpha', \sigma')`, the target, or a DDIM step. Source: Bayes' rule; guidance of flows with this scale is in
arXiv 2310.04432 and 2411.07625.

**The ends of time.** c is finite where b is not, and at t = 1 so is everything else. Where :math:`\alpha = 0`,
:math:`\lambda` is infinite and h is zero, of order :math:`\alpha`: their product has a limit, the step's share of
:math:`E[X_1|y] - E[X_1]`, which cannot be computed from h there. Both are then evaluated where
:math:`\gamma = \sqrt{\epsilon}`, with :math:`\epsilon` the round-off of the dtype: this gives the limit to
:math:`\sqrt\epsilon`, as the error of h is divided by that.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from analysis.flow import Flow
from analysis.paths import AffinePath, Readout, expand

Score = Callable[[Tensor, Tensor], Tensor]


def informed_time(path: AffinePath, t: Tensor, dtype: torch.dtype) -> Tensor:
    """Return t or, where later, the time at which alpha/sigma is the root of the dtype's round-off."""
    return torch.maximum(t, path.time_from_gamma(torch.finfo(dtype).eps ** 0.5).to(t))


def scale_of(path: AffinePath, t: Tensor, readout: Readout) -> Tensor:
    """Return lambda = a sigma^2/alpha - c of a readout at times t with alpha > 0, like t."""
    return readout.target * path.sigma(t) ** 2 / path.alpha(t) - readout.minus_score


def ddim_scale(path: AffinePath, t: Tensor, s: Tensor) -> Tensor:
    """Return lambda of the DDIM step from t to s; for s -> t it is that of the velocity, times s - t."""
    return scale_of(path, t, path.combination(path.alpha(s), path.sigma(s), t))


def checked_score(score: Score, x: Tensor, t: Tensor) -> Tensor:
    """Evaluate score(x, t).

    Returns
    -------
    Tensor
        (B, *event), detached, in the dtype of x.

    Raises
    ------
    ValueError
        If the score is not a tensor of the shape of x.
    """
    h = score(x, t)
    if not isinstance(h, Tensor) or h.shape != x.shape:
        got = tuple(h.shape) if isinstance(h, Tensor) else type(h).__name__
        raise ValueError(f"score must return a tensor like x, {tuple(x.shape)}; got {got}")
    return h.detach().to(x)


class GuidedFlow(Flow):
    """The flow of p(x_1 | y), from the flow of p(x_1) and a likelihood score h(x, t) = grad log p(y | x_t).

    ``score`` maps states (B, *event) and a time, () or (B,), to (B, *event); if it is exact, so is the flow. The flow
    can be solved, not differentiated.
    """

    def __init__(self, flow: Flow, score: Score) -> None:
        self.flow, self.score_of_y, self.path = flow, score, flow.path
        self.event_shape, self.dtype = flow.event_shape, flow.dtype

    def select_rows(self, rows: Tensor) -> Flow:
        """Raise ``TypeError``: the data that ``score`` may hold for each sample cannot be selected."""
        raise TypeError("a GuidedFlow is solved as a whole batch: its score may hold data of each sample")

    def predict(self, x: Tensor, t: Tensor, readout: Readout) -> Tensor:
        """Return the readout of the flow plus lambda h (B, *event)."""
        s = informed_time(self.path, t, x.dtype)
        scale = scale_of(self.path, s, readout._replace(minus_score=readout.source * self.path.sigma(s)))
        scale = torch.where(s == t, scale_of(self.path, s, readout), scale)
        return self.flow.predict(x, t, readout) + expand(scale, x) * checked_score(self.score_of_y, x, s)
