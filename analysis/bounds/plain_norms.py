"""Normalisations of torch with a right third derivative.

The derivative of ``torch.nn.functional.layer_norm`` is computed from a saved mean and variance. Torch differentiates it
once more, but then takes these for constants, so that a third derivative is wrong without an error; likewise in
``instance_norm`` (measured in torch 2.13). That of ``group_norm`` is right, and the other two are special cases of it.
Inside a network that TorchScript compiled nothing can stand for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    """Compute what ``torch.layer_norm`` does, by ``group_norm``."""
    rows = input.reshape(-1, 1, math.prod(normalized_shape))
    plain = functional.group_norm(rows, 1, eps=eps).reshape(input.shape)
    scaled = plain if weight is None else plain * weight
    return scaled if bias is None else scaled + bias


def instance_norm(input: Tensor, *args: Any, use_input_stats: bool = True, **kwargs: Any) -> Tensor:
    """Compute what ``torch.nn.functional.instance_norm`` does, by ``group_norm`` where it needs the input's moments."""
    names = ("running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps")
    given = {"use_input_stats": use_input_stats} | dict(zip(names, args, strict=False)) | kwargs
    if not given["use_input_stats"]:
        return functional.instance_norm(input, **given)
    return functional.group_norm(input, input.shape[1], given.get("weight"), given.get("bias"), given.get("eps", 1e-5))


PLAIN: Mapping[Callable[..., Any], Callable[..., Any]] = {
    functional.layer_norm: layer_norm,
    torch.layer_norm: layer_norm,
    functional.instance_norm: instance_norm,
}


class PlainNorms(TorchFunctionMode):
    """Within it the two normalisations are computed by ``group_norm``."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the function, or the one that stands for it."""
        return PLAIN.get(func, func)(*args, **(kwargs or {}))
