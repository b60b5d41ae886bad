r"""Solves of a flow and of its adjoint on the canonical path, from t to the end and back.

.. math:: \dot x = u(x), \quad \dot \ell = \mathrm{tr} Du(x) \;\text{(forward)}, \qquad \dot a = -Du(x)^T a
          \;\text{(backward, with x)},

over s in [0, 1], which maps linearly to the canonical times of each sample. ``replicas`` repeats a solve in perturbed
arithmetic: the spread of its gradients is their round-off. ``noise`` estimates how closely the flow's own round-off (or
that of a network which computes in less than its state's precision) lets an adaptive solver converge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from analysis import canonical
from analysis.canonical import CANONICAL, CanonicalView
from analysis.errors import relative
from analysis.flow import Flow, HasDensity
from analysis.integration import Budget, integrate
from analysis.losses import Loss, value_and_gradient
from analysis.norms import norms
from analysis.paths import Readout, expand
from analysis.round_off import NOISE_POINTS, last_digits, noise_level, perturbed_gradient

REPLICAS = 2  # beside the plain one
LOOSE = 1e-5  # tolerance of the replicas, which take the same steps: their difference has no truncation error
LONGEST = 1 / 4  # and their longest step
PROBED = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)  # where the noise is asked for


@dataclass(frozen=True)
class Problem:
    """The data of an ideal gradient: a flow, a loss, states x (B, *event) and times t, () or (B,)."""

    flow: Flow
    loss: Loss
    x: Tensor
    t: Tensor

    @cached_property
    def view(self) -> CanonicalView:
        """The flow on the canonical path."""
        return canonical.view(self.flow, self.t)

    @cached_property
    def duration(self) -> Tensor:
        """The canonical time from t to the end, () or (B,)."""
        return self.view.end - self.view.begin

    @cached_property
    def start(self) -> Tensor:
        """The states (B, *event) on the canonical path."""
        return self.view.enter(self.x)

    @cached_property
    def density(self) -> HasDensity | None:
        """The flow on the canonical path where its density there is known, else None."""
        return self.view.flow if isinstance(self.view.flow, HasDensity) else None

    @property
    def log_volume(self) -> Tensor:
        """The logarithm of the determinant of both changes of scale, () or (B,)."""
        return self.x[0].numel() * (torch.log(self.view.end_scale) - torch.log(self.view.begin_scale))

    def _question(self, s: Tensor) -> tuple[Tensor, Readout]:
        tau = self.view.begin + s * self.duration
        return tau, CANONICAL.readout("velocity", tau)

    def rate(self, s: Tensor, y: Tensor) -> Tensor:
        """Return dy/ds (B, *event)."""
        return expand(self.duration, self.x) * self.view.flow.predict(y, *self._question(s))

    def volume_rate(self, s: Tensor, y: Tensor) -> Tensor:
        """Return the divergence of dy/ds, (B,)."""
        assert self.density is not None
        return self.duration * self.density.divergence(y, *self._question(s))

    def rates(self, s: Tensor, y: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        """Return dy/ds and da/ds (B, *event), where a is the adjoint."""
        velocity, pull = self.view.flow.predict_vjp(y, *self._question(s))
        return expand(self.duration, self.x) * velocity, -expand(self.duration, self.x) * pull(a)

    def gradient(self, adjoint: Tensor) -> Tensor:
        """Return the gradient in x from the adjoint at t on the canonical path."""
        return self.view.enter(self.view.leave(adjoint))


@dataclass(frozen=True)
class Solved:
    """One solve forward and back.

    Attributes
    ----------
    gradient, endpoint : (B, *event)
    round_trip : (B,), by how much x comes back changed, relative to its norm on the canonical path (to 1 if smaller)
    log_det : (B,), log|det DPhi|, where it was asked for
    """

    gradient: Tensor
    endpoint: Tensor
    round_trip: Tensor
    log_det: Tensor | None = None


def forth(problem: Problem, *, with_density: bool, **options: Any) -> list[Tensor]:
    """Integrate states to the end on the canonical path; with the log-volume (B,) where asked for."""

    def forward(s: Tensor, state: list[Tensor]) -> list[Tensor]:
        velocity = problem.rate(s, state[0])
        return [velocity, problem.volume_rate(s, state[0])] if with_density else [velocity]

    initial = [problem.start, torch.zeros(len(problem.x), dtype=problem.x.dtype)]
    return integrate(forward, initial[: 1 + with_density], 0.0, 1.0, **options)


def solve(problem: Problem, tolerance: float, max_step: float, budget: Budget, *, with_density: bool) -> Solved:
    """Solve forward and, from the loss gradient at the endpoint, backward; with the density where there is one."""
    x, start = problem.x, problem.start
    with_density = with_density and problem.density is not None

    def backward(s: Tensor, state: list[Tensor]) -> list[Tensor]:
        return list(problem.rates(s, *state))

    options: dict[str, Any] = {"tolerance": tolerance, "max_step": max_step, "budget": budget}
    final = forth(problem, with_density=with_density, **options)
    endpoint = problem.view.leave(final[0])
    adjoint = value_and_gradient(problem.loss, endpoint)[1]
    # Normalised per sample, so that one absolute tolerance is relative for each of them.
    size = expand(_size(adjoint), x)
    back, pulled = integrate(backward, [final[0], adjoint / size], 1.0, 0.0, **options)
    # On the canonical path the noise has unit scale, which serves as the scale of states near the origin.
    round_trip = norms(back - start) / norms(start).clamp_min(1.0)
    log_det = final[1] + problem.log_volume if with_density else None
    return Solved(problem.gradient(size * pulled), endpoint, round_trip, log_det)


@dataclass(frozen=True)
class Replicas:
    """Estimates of round-off from repetitions of a loose solve in perturbed arithmetic.

    Attributes
    ----------
    round_off : (B,), by how much the gradients differ, relative
    noise : the noise of the rates, relative to what the solver's tolerance is relative to (root mean square)
    mesh : where the steps of the way forth end, from 0 to 1
    """

    round_off: Tensor
    noise: float
    mesh: tuple[float, ...]


def replicas(problem: Problem, tolerance: float, budget: Budget) -> Replicas:
    """Solve once plainly and ``REPLICAS`` times with perturbed states, adjoints and losses, in the same steps."""
    generator, count = torch.Generator().manual_seed(0), REPLICAS + 1
    options: dict[str, Any] = {"tolerance": tolerance, "max_step": LONGEST, "budget": budget, "evaluations": count}
    nodes: list[tuple[float, Tensor]] = []
    mesh = [0.0]

    def perturbed(tensors: Sequence[Tensor]) -> list[Tensor]:
        return [tensors[0], *(last_digits(y, generator) for y in tensors[1:])]

    def record(s: float, state: list[Tensor]) -> None:
        mesh.append(s)
        if len(nodes) < len(PROBED) and s >= PROBED[len(nodes)]:
            nodes.append((s, state[0]))

    def forward(s: Tensor, state: list[Tensor]) -> list[Tensor]:
        return [problem.rate(s, y) for y in perturbed(state)]

    def backward(s: Tensor, state: list[Tensor]) -> list[Tensor]:
        states, adjoints = perturbed(state[:count]), perturbed(state[count:])
        pairs = [problem.rates(s, y, a) for y, a in zip(states, adjoints, strict=True)]
        return [part for parts in zip(*pairs, strict=True) for part in parts]

    final = integrate(forward, [problem.start] * count, 0.0, 1.0, record=record, **options)
    ends = [problem.view.leave(y) for y in final]
    gradients = [value_and_gradient(problem.loss, ends[0])[1]]
    gradients += [perturbed_gradient(problem.loss, end, generator) for end in ends[1:]]
    size = expand(_size(gradients[0]), problem.x)
    back = integrate(backward, [*final, *(g / size for g in gradients)], 1.0, 0.0, **options)
    first, *others = (problem.gradient(size * a) for a in back[count:])
    spread = torch.stack([relative(g - first, first) for g in others]).amax(0)
    return Replicas(spread, noise(problem, nodes, budget), tuple(mesh))


def noise(problem: Problem, nodes: Sequence[tuple[float, Tensor]], budget: Budget) -> float:
    """Estimate the noise of all integrated quantities: the largest at each node (s, y), and the mean over nodes.

    It is relative to the same scale as a solver's tolerance, and a root mean square over the batch, as the solver's
    norm is. It is a mean over nodes because steps add up.

    Returns
    -------
    float
        The relative noise.
    """
    x, spacing = problem.x, torch.finfo(problem.x.dtype).eps ** 0.4
    adjoint = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(x)
    adjoint = adjoint / expand(norms(adjoint), x)
    scales = (1 + adjoint.abs(), torch.ones(()).to(x))

    def rates(s: float, y: Tensor) -> tuple[Tensor, ...]:
        at = torch.tensor(s, dtype=torch.float64)
        return (*problem.rates(at, y, adjoint), *([problem.volume_rate(at, y)] if problem.density else []))

    levels = []
    for s, y in nodes:
        budget.spend(s, NOISE_POINTS + 1)
        velocity = rates(s, y)[0]
        values = [rates(s - k * spacing, y - k * spacing * velocity) for k in range(NOISE_POINTS)]
        parts = zip((torch.stack(part) for part in zip(*values, strict=True)), (1 + y.abs(), *scales), strict=False)
        levels.append(max(noise_level(part / scale) for part, scale in parts))
    return sum(levels) / len(levels)


def repeats(problem: Problem, budget: Budget) -> bool:
    """Return whether two evaluations at one state agree to half of the digits."""
    budget.spend(0.0, 2)
    first, second = (problem.rate(torch.zeros((), dtype=torch.float64), problem.start) for _ in range(2))
    return bool((relative(second - first, first) <= torch.finfo(problem.x.dtype).eps ** 0.5).all())


def _size(v: Tensor) -> Tensor:
    return norms(v).clamp_min(torch.finfo(v.dtype).tiny)
