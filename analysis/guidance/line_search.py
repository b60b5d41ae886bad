r"""L-BFGS with a line search on every sample of a batch separately, of one gradient per iteration.

With a fixed rate the first steps of L-BFGS may leave every bound: its approximation of the Hessian is still poor.
Public code of D-Flow therefore has a line search (``torch.optim.LBFGS`` with strong Wolfe conditions). Here every
gradient is a trial. Let :math:`a = -p^T \nabla f` be the slope at the beginning of a direction p, and
:math:`b = p^T \nabla f` at the trial point. A trial is accepted if :math:`b \le c\,a`, the upper of the strong Wolfe
conditions on slopes. If the slope has grown beyond, the minimum along p lies before, and the next trial is where the
secant of the slopes is zero. Values of the loss are not compared, so that estimators whose gradients are not those of
their values can be searched too. No trial moves farther than ``LONGEST`` times the length of x. Source of the
conditions: Nocedal & Wright, *Numerical Optimization*, section 3.1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from analysis.guidance.optimisers import HISTORY, OPTIMISERS, BatchedLBFGS, _dot
from analysis.norms import norms, widened
from analysis.paths import expand

STEEPEST = 0.9  # c
SHORTEST, LEAST_CUT = 0.1, 0.5  # the next trial's length over that of a rejected one
LONGEST = 0.5


class LineSearchLBFGS(BatchedLBFGS):
    """L-BFGS whose steps are shortened until the slope along them is small enough, on x (B, *event)."""

    def __init__(self, learning_rate: float, history: int = HISTORY) -> None:
        super().__init__(learning_rate, history)
        self.begin: tuple[Tensor, Tensor] | None = None  # the last accepted iterate and its gradient
        self.trial = torch.empty(0)  # the step from there that was tried

    def __call__(self, x: Tensor, g: Tensor) -> Tensor:
        """Return the next trial points, from the gradients g (B, *event) at the last ones, x."""
        g = widened(g)
        if self.begin is None:
            return self._next(x, g, torch.ones(len(x), dtype=torch.bool, device=x.device))
        before, slope = -_dot(self.trial, self.begin[1]), _dot(self.trial, g)
        accepted = slope <= STEEPEST * before
        share = (before / (before + slope)).nan_to_num(SHORTEST).clamp(SHORTEST, LEAST_CUT)
        return self._next(x, g, accepted, expand(share, g) * self.trial)

    def _next(self, x: Tensor, g: Tensor, accepted: Tensor, shorter: Tensor | None = None) -> Tensor:
        """Return the first trials of new directions where the last ones were accepted, and shorter ones elsewhere."""
        if self.begin is None or shorter is None:
            self.begin, shorter = (x, g), torch.zeros_like(g)
        old, kept = self.begin, expand(accepted, g).bool()
        self.begin = torch.where(kept, x, old[0]), torch.where(kept, g, old[1])
        if self.last is not None:  # of a rejected trial there is no pair, and its zero curvature leaves it out
            self.last = torch.where(kept, self.trial, 0.0), self.last[1]
        fresh = super().__call__(self.begin[0], self.begin[1]) - self.begin[0]
        self.trial = torch.where(kept, self._bounded(widened(fresh), x), shorter)
        return self.begin[0] + self.trial.to(x)

    def _bounded(self, step: Tensor, x: Tensor) -> Tensor:
        longest = LONGEST * norms(x).clamp_min(math.sqrt(x[0].numel()))
        return step * expand((longest / norms(step)).nan_to_num(1.0).clamp_max(1.0), step)


OPTIMISERS["lbfgs_line_search"] = lambda x, learning_rate: LineSearchLBFGS(learning_rate)
