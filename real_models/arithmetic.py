"""Ways to compute a network: channels-last memory, TF32, bfloat16 and ``torch.compile``, one object for all.

Channels-last and compilation change the network; TF32 and bfloat16 change its surroundings. Channels-last reorders the
weights, and convolutions follow their weights; compilation wraps the network. bfloat16 is autocast around every call
and not a cast of the weights: matrix products and convolutions run in bfloat16, while the embedding of time, the norms
and the solver's states stay in float32 (in eight bits, a time would become another time). TF32 is a flag of the process
that must be set while the gradient is computed; ``active`` sets it and then restores it.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, cast

import torch
from torch import Tensor, nn

from analysis import checks
from analysis.flow import PredictionFlow
from analysis.probe import select_rows

BACKENDS = ("inductor", "aot_eager", "eager")


def _buffers_kept() -> contextlib.AbstractContextManager[Any]:
    """Forbid compiled graphs to free their buffers inside the block: a pullback may be used more than once."""
    config = importlib.import_module("torch._functorch.config")  # costs an import of the compiler
    return config.patch(donated_buffer=False)


class Network(nn.Module):
    """A network under some of these options; it maps x (B, *event) and t (B,) to a tensor like x, in the dtype of x.

    Parameters
    ----------
    module : the network to wrap, unchanged
    channels_last, autocast : whether images are laid out channels-last, and whether to call it under bfloat16 autocast
    """

    def __init__(self, module: nn.Module, channels_last: bool, autocast: bool) -> None:
        super().__init__()
        self.module, self.channels_last, self.autocast = module, channels_last, autocast

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the network's output at x (B, *event) and t (B,)."""
        if self.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16, self.autocast):
            return self.module(x, t).to(x.dtype)

    def select_rows(self, rows: Tensor) -> Network:
        """Return the network for the samples with indices ``rows`` (C,), as ``analysis.flow.Flow.select_rows`` does."""
        module = select_rows(self.module, rows)
        return self if module is self.module else Network(cast(nn.Module, module), self.channels_last, self.autocast)


@dataclass(frozen=True)
class Arithmetic:
    """The options of the arithmetic; by default none is set.

    Attributes
    ----------
    channels_last : keep the weights of convolutions, and with them all features, channel by channel at each pixel
    tf32 : let float32 matrix products and convolutions on CUDA round their factors to TF32's ten bits; off means that
        convolutions, too, are true float32, which is not torch's default
    bfloat16 : run matrix products and convolutions of a float32 network in bfloat16
    compile : backend of ``torch.compile``, one of ``BACKENDS``, or ``None``; shapes that change are compiled anew

    Raises
    ------
    ValueError
        For an option of another type, or an unknown backend of ``compile``.
    """

    channels_last: bool = False
    tf32: bool = False
    bfloat16: bool = False
    compile: str | None = None

    def __post_init__(self) -> None:
        for name in ("channels_last", "tf32", "bfloat16"):
            if not isinstance(value := getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, got {value!r}")
        if self.compile is not None:
            checks.known("compile", self.compile, BACKENDS)

    def __str__(self) -> str:
        return ", ".join(field.name for field in fields(self) if getattr(self, field.name)) or "none"

    def applied(self, module: nn.Module) -> nn.Module:
        """Return a copy of a network under these options; the given network is not changed.

        Returns
        -------
        nn.Module
            The copy, from x (B, *event) and t (B,) to a tensor like x.

        Raises
        ------
        ValueError
            For bfloat16 with weights that are not float32, since autocast leaves float64 alone.
        """
        module = copy.deepcopy(module)
        if self.bfloat16 and any(p.dtype != torch.float32 for p in module.parameters()):
            raise ValueError("module must have float32 weights for bfloat16, which is autocast")
        if self.channels_last:
            module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network: nn.Module = Network(module, self.channels_last, self.bfloat16)
        if self.compile:
            network = torch.compile(network, backend=self.compile)  # type: ignore[assignment]
        return network

    def flow(self, flow: PredictionFlow) -> PredictionFlow:
        """Return a copy of a flow whose network computes under these options.

        Returns
        -------
        PredictionFlow
            The copy.

        Raises
        ------
        ValueError
            Where the flow's function is not an ``nn.Module``, and as ``applied`` does.
        """
        if not isinstance(flow.function, nn.Module):
            raise ValueError(f"flow must hold an nn.Module for its switches, got {type(flow.function).__name__}")
        switched = copy.copy(flow)
        switched.function = self.applied(flow.function)
        return switched

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Set the flags of the process inside the block, which must contain the gradients; restore them at its end."""
        matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        before = matmul.allow_tf32, cudnn.allow_tf32
        matmul.allow_tf32 = cudnn.allow_tf32 = self.tf32
        try:
            with _buffers_kept() if self.compile else contextlib.nullcontext():
                yield
        finally:
            matmul.allow_tf32, cudnn.allow_tf32 = before
