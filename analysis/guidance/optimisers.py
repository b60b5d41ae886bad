r"""Optimisers under which the samples of a batch do not influence each other.

SGD and Adam of ``torch.optim`` act on every entry separately. ``torch.optim.LBFGS`` does not: its inner products run
over all parameters, so the samples of a batch would change each other's steps. ``BatchedLBFGS`` is the same method with
inner products per sample: without a line search, one gradient per step, it takes the steps that
``torch.optim.LBFGS(max_iter=1)`` takes on each sample alone. Source: Nocedal & Wright, *Numerical Optimization*,
algorithm 7.4.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from analysis import checks
from analysis.norms import norms, widened
from analysis.paths import expand

HISTORY = 10
CURVATURE, FLAT, STILL = 1e-10, 1e-7, 1e-9  # torch's: least curvature of a pair, least gradient, least descent
Step = Callable[[Tensor, Tensor], Tensor]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)


class BatchedLBFGS:
    """L-BFGS with a fixed step size on every sample of x (B, *event) separately."""

    def __init__(self, learning_rate: float, history: int = HISTORY) -> None:
        self.learning_rate, self.history = learning_rate, history
        self.pairs: list[tuple[Tensor, Tensor, Tensor]] = []
        self.last: tuple[Tensor, Tensor] | None = None  # the step before and its gradient

    def __call__(self, x: Tensor, g: Tensor) -> Tensor:
        """Return the next iterates, from the gradients g (B, *event) at x; inner products are in float32 or wider."""
        g = widened(g)
        direction, length = -g, self.learning_rate / g.abs().flatten(1).sum(1).clamp_min(1.0)
        if self.last is not None:
            step, before = self.last
            change = g - before
            curvature = _dot(change, step)
            inverse = torch.where(curvature > CURVATURE, 1 / curvature, 0.0)  # 0 leaves the pair out of all sums
            self.pairs = [*self.pairs, (step, change, inverse)][-self.history :]
            direction, length = -self._product(g), torch.full_like(length, self.learning_rate)
        moving = (g.abs().flatten(1).amax(1) > FLAT) & (_dot(g, direction) <= -STILL)
        step = expand(torch.where(moving, length, 0.0), direction) * direction
        self.last = step, g
        return x + step.to(x)

    def _product(self, g: Tensor) -> Tensor:
        """Return the inverse Hessian's approximation times g, by the two-loop recursion."""
        q, weights = g, []
        for step, change, inverse in reversed(self.pairs):
            weights.append(inverse * _dot(step, q))
            q = q - expand(weights[-1], q) * change
        size = torch.ones_like(weights[0])
        for _, change, inverse in self.pairs:  # the newest pair that is convex enough sets the scale
            size = torch.where(inverse > 0, 1 / (inverse * _dot(change, change)), size)
        q = expand(size, q) * q
        for (step, change, inverse), weight in zip(self.pairs, reversed(weights), strict=True):
            q = q + expand(weight - inverse * _dot(change, q), q) * step
        return q


def _elementwise(optimiser: type[torch.optim.Optimizer], x: Tensor, learning_rate: float) -> Step:
    parameter = torch.nn.Parameter(x.clone())
    stepper = optimiser([parameter], lr=learning_rate)  # type: ignore[call-arg]

    def step(x: Tensor, g: Tensor) -> Tensor:
        parameter.data.copy_(x)
        parameter.grad = g
        stepper.step()
        return parameter.detach().clone()

    return step


def _normalised(x: Tensor, g: Tensor, learning_rate: float) -> Tensor:
    """Return x moved against its gradient by ``learning_rate`` per coordinate, in the root mean square."""
    size = norms(g)
    length = torch.where(size > 0, learning_rate * math.sqrt(g[0].numel()) / size, 0.0)
    return x - expand(length, x) * g


OPTIMISERS: checks.Registry[Callable[[Tensor, float], Step]] = checks.Registry(
    "optimiser",
    {
        "sgd": lambda x, learning_rate: _elementwise(torch.optim.SGD, x, learning_rate),
        "adam": lambda x, learning_rate: _elementwise(torch.optim.Adam, x, learning_rate),
        "lbfgs": lambda x, learning_rate: BatchedLBFGS(learning_rate),
        "normalised": lambda x, learning_rate: lambda x, g: _normalised(x, g, learning_rate),
    },
)


def optimiser(name: str, x: Tensor, learning_rate: float) -> Step:
    """Make the map (iterates, gradients) -> next iterates of an optimiser in ``OPTIMISERS``, for tensors like x.

    Returns
    -------
    Step
        Of tensors (B, *event).

    Raises
    ------
    ValueError
        For an unknown name and for a learning rate that is not positive and finite.
    """
    learning_rate = checks.positive("learning_rate", learning_rate)
    return OPTIMISERS[checks.known("optimiser", name, OPTIMISERS)](x, learning_rate)
