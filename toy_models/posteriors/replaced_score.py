"""Samples of the posterior's ODE in which a guidance gradient replaces the exact likelihood score for some time.

Outside the window of time the exact score is used, so that the samples show the cost of the replacement in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from analysis.flow import Flow
from analysis.guidance import Sample, choose, oracle_ode
from analysis.guidance.dial import rule_of
from analysis.guidance.likelihood import Score
from analysis.measurements import MeasuredBatch
from analysis.settings import Variant

Window = tuple[float, float]


def windowed(inside: Score, outside: Score, window: Window) -> Score:
    """Return the score function ``inside`` at times in the window, its start included, and ``outside`` elsewhere."""
    return lambda x, t: (inside if window[0] <= float(t) < window[1] else outside)(x, t)


def no_score(x: Tensor, t: Tensor) -> Tensor:
    """Return a zero score like x (B, d)."""
    return torch.zeros_like(x)


@dataclass(frozen=True)
class Replacement:
    """An estimator whose gradient g replaces the exact score in a window of time of a solve with ``steps`` DDIM steps.

    The replacement is -g times the scale or, without a scale, -g with the length of the exact score. It is 0 in the
    first step: at alpha = 0 the score vanishes, while the gradient of a lookahead does not.
    """

    estimator: Variant
    window: Window
    steps: int
    scale: float | None = None

    def score(self, flow: Flow, batch: MeasuredBatch) -> Score:
        """Return the replacing score function, for all times."""
        rule, options = rule_of(self.estimator)
        loss, exact = batch.loss(), batch.score(flow.path)

        def score(x: Tensor, t: Tensor) -> Tensor:
            if float(t) < 0.5 / self.steps:
                return no_score(x, t)
            g = rule(flow, loss, x, t, **options)[0]
            if self.scale is not None:
                return -self.scale * g
            return -functional.normalize(g) * torch.linalg.vector_norm(exact(x, t), dim=1, keepdim=True)

        return score

    def samples(self, flow: Flow, batch: MeasuredBatch) -> Sample:
        """Return samples of the posterior's ODE, with the exact score outside the window."""
        score = windowed(self.score(flow, batch), batch.score(flow.path), self.window)
        return oracle_ode(flow, batch.loss(), batch.x0, score=score, steps=self.steps)

    def tuned(self, flow: Flow, batch: MeasuredBatch, scales: Sequence[float]) -> Replacement:
        """Return a copy with the scale of least mean energy distance on a batch; a single scale needs no comparison."""

        def run(scale: float) -> Sample:
            return replace(self, scale=scale).samples(flow, batch)

        best = choose(run, {"scale": scales}, score=batch.energy_distance) if len(scales) > 1 else None
        return replace(self, scale=best.options["scale"] if best else scales[0])
