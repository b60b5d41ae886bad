"""Learned flows as the claims use them: states, ideal gradients, and the registry of measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.claims import Case
from analysis.claims.states import FlowStates, path_named
from analysis.converged import converged_gradients
from analysis.flow import Flow
from analysis.losses import Loss
from analysis.reference import Reference
from analysis.settings import resolve
from analysis.subject import Subject

Measure = Callable[["Learned", bool, int], Iterator[Case]]
MEASURES: dict[str, Measure] = {}


def on_network(id: str) -> Callable[[Measure], Measure]:
    """Register the decorated function as the measurement of a claim on a learned flow."""

    def register(measure: Measure) -> Measure:
        MEASURES[id] = measure
        return measure

    return register


@dataclass(frozen=True)
class LearnedStates(FlowStates):
    """States that are ordered by time, n for each of T; ``each`` is the loss of the n of one time."""

    each: Loss


@dataclass(frozen=True)
class Learned:
    """A learned flow in float64 and its data, given by a subject's name, along CondOT.

    Attributes
    ----------
    factory, problem : of a ``Subject`` with flat states (B, d), as ``analysis.settings.resolve`` takes them
    smooth : the zeta below which the network's own smoothness sets in, so that orders in a step to t = 1 show there
    resolved : the zeta from which on a few steps resolve the network
    """

    factory: str = "real_models.images:subject"
    problem: str = "mnist_unet"
    # Images have pixels that never vary, so the learned field changes over every doubling of zeta down to about 1e-3.
    smooth: float = 1.2e-4
    resolved: float = 5e-4

    def window(self, order: int) -> Tensor:
        """Return four zetas from ``smooth`` down, over which the error of a single step of an order is above round-off.

        Returns
        -------
        Tensor
            (4,), float64, falling.
        """
        return self.smooth / (2.0 if order < 3 else 1.3) ** torch.arange(4, dtype=torch.float64)

    @property
    def late(self) -> float:
        """The time at which zeta is ``resolved`` on CondOT."""
        return 1 / (1 + self.resolved)

    def subject(self, dtype: str = "float64") -> Subject:
        """Return the subject along CondOT in a dtype, on the CPU."""
        return resolve(self.factory)(self.problem, "condot", dtype, "cpu")

    def sample_states(self, path: str, times: Sequence[float] | Tensor, n: int, seed: int) -> LearnedStates:
        """Sample n states at each of the times (T,), with the same data, noise and loss at each of them."""
        subject, schedule = self.subject(), path_named(path)
        times, generator = torch.as_tensor(times, dtype=torch.float64), torch.Generator().manual_seed(seed)
        flow = subject.reference_flow
        condot = flow.path.time_from_zeta(schedule.zeta(times))
        x = subject.states(condot, n, generator)
        x = x * (schedule.alpha(times) / flow.path.alpha(condot)).repeat_interleave(n)[:, None]
        before = generator.get_state()
        loss, each = (
            subject.loss(repeats, n, generator.set_state(before))  # the same draw
            for repeats in (len(times), 1)
        )
        flow = flow if path == "condot" else flow.with_path(schedule)
        return LearnedStates(flow, loss, x, times.repeat_interleave(n), each)


def ideal_gradients(flow: Flow, losses: Sequence[Loss], x: Tensor, times: Tensor, steps: int) -> Reference:
    """Return ideal gradients at states x (T * n, d), solved separately for each time (T,), with one loss per time."""
    solves = zip(losses, x.chunk(len(times)), times, strict=True)
    parts = [converged_gradients(flow, loss, part, (float(t),), steps=steps).references[0] for loss, part, t in solves]
    gradient, endpoint, bound = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("gradient", "endpoint", "error_bound")
    )
    return Reference(gradient, endpoint, "converged", bound)


def reference_of(states: LearnedStates, times: Tensor, steps: int) -> Reference:
    """Return the ideal gradients (T * n, d) at states that are ordered by time (T,)."""
    return ideal_gradients(states.flow, [states.each] * len(times), states.x, times, steps)
