"""A network with fixed weights whose calls and products on a GPU are replays of recordings (CUDA graphs).

A small network's call is hundreds of launches, of which the GPU waits for each. A recording launches them all at once.
Calls and products are recorded once for every number of samples, rounded up to a multiple of ``ROWS``; the rows beyond
a batch hold what stood there before. A product recomputes the call, so that nothing is kept between the two. On a CPU
the network is called as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

T = TypeVar("T")
ROWS = 32


def recorded(function: Callable[[], T], pool: Any) -> tuple[Any, T]:
    """Record what a function of no arguments launches on the GPU.

    It is called once before, since what it makes once, such as the workspace of products, is not to be recorded.

    Returns
    -------
    tuple
        The graph, and the function's result, which a replay writes again.
    """
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        function()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        value = function()
    return graph, value


@dataclass
class Recording:
    """A graph, the tensor that it writes, and those that it reads."""

    graph: Any
    value: Tensor
    inputs: Sequence[Tensor]

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Replay with other inputs, each of B rows at most; return the first B rows of the result."""
        for here, new in zip(self.inputs, inputs, strict=True):
            here[: len(new)].copy_(new)
        self.graph.replay()
        return self.value[: len(inputs[0])].clone()


class Replayed(nn.Module):
    """A network of a tensor x (B, ...), in which alone it is differentiated, and of others (B, ...).

    Samples must not depend on each other, and parameters must not change.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.recordings: dict[tuple[Any, ...], Recording] = {}
        self.pool = torch.cuda.graph_pool_handle() if torch.cuda.is_available() else None

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """Return the network's value (B, ...)."""
        return _Call.apply(self, x, *others) if x.is_cuda else self.module(x, *others)

    def value(self, *inputs: Tensor) -> Tensor:
        """Return the network's value (B, ...), without a graph of autograd."""

        def call(*here: Tensor) -> Tensor:
            with torch.no_grad():
                return self.module(*here)

        return self._replay("value", call, inputs)

    def product(self, v: Tensor, *inputs: Tensor) -> Tensor:
        """Return the product (B, ...) of v and the Jacobian in the first input."""

        def call(v: Tensor, x: Tensor, *others: Tensor) -> Tensor:
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                return torch.autograd.grad(self.module(x, *others), x, v)[0]

        return self._replay("product", call, (v, *inputs))

    def _replay(self, name: str, call: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Tensor:
        rows = -(-len(inputs[0]) // ROWS) * ROWS
        key = (name, rows, *((part.shape[1:], part.dtype) for part in inputs))
        if key not in self.recordings:
            here = [part[torch.arange(rows) % len(part)].detach().clone() for part in inputs]
            self.recordings[key] = Recording(*recorded(lambda: call(*here), self.pool), here)
        return self.recordings[key](*inputs)


class _Call(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, replayed: Replayed, *inputs: Tensor) -> Tensor:
        ctx.replayed = replayed
        ctx.save_for_backward(*inputs)
        return replayed.value(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        return None, ctx.replayed.product(v, *inputs), *(None for _ in inputs[1:])
