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
from analysis.losses import HalfSquaredDistance, Loss
from analysis.reference import Reference
from analysis.settings import resolve
from analysis.subject import Subject

FACTORY, PROBLEM = "real_models.images:subject", "mnist_unet"
# Images have pixels that never vary, so the learned field changes over every doubling of zeta down to about 1e-3, where
# the network's own smoothness sets in: orders in a step to t = 1 show below that.
SMALL = 1.2e-4
WINDOWS = {p: SMALL / 2.0 ** torch.arange(4) for p in (1, 2)} | {p: SMALL / 1.3 ** torch.arange(4) for p in (3, 4)}
RESOLVED = 1 / (1 + 5e-4)  # a time from which a few steps resolve the network
Measure = Callable[["Learned", bool, int], Iterator[Case]]
MEASURES: dict[str, Measure] = {}


def on_network(id: str) -> Callable[[Measure], Measure]:
    """Register the decorated function as the measurement of a claim on a learned flow."""

    def register(measure: Measure) -> Measure:
        MEASURES[id] = measure
        return measure

    return register


@dataclass(frozen=True)
class Learned:
    """A learned flow in float64 and its data, given by a subject's name, along CondOT."""

    factory: str = FACTORY
    problem: str = PROBLEM

    def subject(self, dtype: str = "float64") -> Subject:
        """Return the subject along CondOT in a dtype, on the CPU."""
        return resolve(self.factory)(self.problem, "condot", dtype, "cpu")

    def sample_states(self, path: str, times: Sequence[float] | Tensor, n: int, seed: int) -> FlowStates:
        """Sample n states at each of the times (T,), with the same image, noise and target at each of them."""
        subject, schedule = self.subject(), path_named(path)
        times = torch.as_tensor(times, dtype=torch.float64)
        generator = torch.Generator().manual_seed(seed)
        clean = subject.states(torch.ones(1, dtype=torch.float64), n, generator)
        noise = torch.randn(clean.shape, dtype=torch.float64, generator=generator)
        loss = subject.loss(len(times), n, generator)
        assert isinstance(loss, HalfSquaredDistance)
        flow = subject.reference_flow if path == "condot" else subject.reference_flow.with_path(schedule)
        return FlowStates(flow, loss, schedule.states(times, clean, noise), times.repeat_interleave(n))


def ideal_gradients(flow: Flow, losses: Sequence[Loss], x: Tensor, times: Tensor, steps: int) -> Reference:
    """Return ideal gradients at states x (T * n, d), solved separately for each time (T,), with one loss per time."""
    solves = zip(losses, x.chunk(len(times)), times, strict=True)
    parts = [converged_gradients(flow, loss, part, (float(t),), steps=steps).references[0] for loss, part, t in solves]
    gradient, endpoint, bound = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("gradient", "endpoint", "error_bound")
    )
    return Reference(gradient, endpoint, "converged", bound)


def reference_of(states: FlowStates, times: Tensor, steps: int) -> Reference:
    """Return the ideal gradients (T * n, d) at states that are ordered by time (T,)."""
    losses = [HalfSquaredDistance(part) for part in states.loss.target.chunk(len(times))]
    return ideal_gradients(states.flow, losses, states.x, times, steps)
