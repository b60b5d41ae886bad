"""Losses of random batches, and their gradients on a GPU as recordings (CUDA graphs), one for every shape of a batch.

Networks of molecules are small: on a GPU the time of a step is that of thousands of launches of kernels. A recording
launches all of them at once. Batches are drawn on the CPU by one generator, as on other devices, and copied into the
tensors that a recording reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from real_models.replayed import recorded


@dataclass(frozen=True)
class BatchLoss:
    """The mean loss of a random batch.

    Attributes
    ----------
    draw : returns the tensors of a batch, on the CPU
    each : returns the losses (B,) of a module at these tensors
    """

    draw: Callable[[torch.Generator], tuple[Tensor, ...]]
    each: Callable[..., Tensor]

    def __call__(self, module: nn.Module, generator: torch.Generator) -> Tensor:
        """Return the loss of the next batch."""
        device = next(module.parameters()).device
        return self.each(module, *(part.to(device) for part in self.draw(generator))).mean()


@dataclass(frozen=True)
class Recording:
    """The tensors that a graph reads, the loss and the gradients that it writes, and the graph."""

    inputs: Sequence[Tensor]
    value: Tensor
    gradients: Sequence[Tensor | None]
    graph: Any


class Recorder:
    """The gradients of a loss in the parameters of a module on a GPU; ``bfloat16`` computes under autocast."""

    def __init__(self, loss: BatchLoss, module: nn.Module, bfloat16: bool) -> None:
        self.loss, self.module, self.bfloat16 = loss, module, bfloat16
        self.parameters = list(module.parameters())
        self.recordings: dict[tuple[torch.Size, ...], Recording] = {}
        self.pool = torch.cuda.graph_pool_handle()  # shared: what one leaves is read before the next is replayed
        self.last: Tensor | None = None

    def gradients(self, generator: torch.Generator) -> float:
        """Set the gradients at the next batch; return the loss of the one before, for which the GPU is not waited."""
        parts = self.loss.draw(generator)
        shapes = tuple(part.shape for part in parts)
        if shapes not in self.recordings:
            self.recordings[shapes] = self._record(parts)
        recording = self.recordings[shapes]
        for here, part in zip(recording.inputs, parts, strict=True):
            here.copy_(part.pin_memory(), non_blocking=True)
        recording.graph.replay()
        for parameter, gradient in zip(self.parameters, recording.gradients, strict=True):
            parameter.grad = gradient
        value, self.last = self.last, recording.value.clone()
        return float(self.last if value is None else value)

    def _record(self, parts: Sequence[Tensor]) -> Recording:
        inputs = [part.to(self.parameters[0].device) for part in parts]
        graph, (value, gradients) = recorded(lambda: self._compute(inputs), self.pool)
        return Recording(inputs, value, gradients, graph)

    def _compute(self, inputs: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """Return the loss and its gradients; autocast keeps no casts, as they would outlive a recording."""
        with torch.autocast("cuda", torch.bfloat16, enabled=self.bfloat16, cache_enabled=False):
            value = self.loss.each(self.module, *inputs).mean()
        return value.detach(), torch.autograd.grad(value, self.parameters, allow_unused=True)
