"""Subjects of a measurement: a flow, its float64 reference, and samplers of states and losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.flow import Flow
from analysis.losses import HalfSquaredDistance, Loss


@dataclass(frozen=True)
class Subject:
    """A flow, its float64 copy for the reference, and samplers of states and losses.

    ``states(times, n, generator)`` draws n states at each of the times (T,), stacked time after time, (T * n, *event),
    with the same data and noise at every time so that differences between times are paired;
    ``loss(repeats, n, generator)`` draws a loss for n samples, repeated likewise. Both are float64.
    """

    flow: Flow
    reference_flow: Flow
    states: Callable[[Tensor, int, torch.Generator], Tensor]
    loss: Callable[[int, int, torch.Generator], Loss]

    @classmethod
    def of(cls, flow: Flow, reference_flow: Flow, sample: Callable[[int, torch.Generator], Tensor]) -> Subject:
        """Make one from data: ``sample(n, generator)`` draws (n, d) float64; the loss is to another sample."""

        def states(times: Tensor, n: int, generator: torch.Generator) -> Tensor:
            clean = sample(n, generator)
            return reference_flow.path.states(
                times, clean, torch.randn(clean.shape, dtype=clean.dtype, generator=generator)
            )

        def loss(repeats: int, n: int, generator: torch.Generator) -> Loss:
            return HalfSquaredDistance(sample(n, generator).repeat(repeats, 1))

        return cls(flow, reference_flow, states, loss)
