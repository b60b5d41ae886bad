"""The probe of a function that a user hands over: what goes wrong in a call names the function."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from analysis import checks
from analysis.probe import Function, Probe


class PlainProbe(Probe):
    """A probe that also refuses what is no tensor, and says of a ``ValueError`` what the function was given."""

    def look(self, function: Function, x: Tensor, t: Tensor) -> None:
        """Test a function at states x (B, *event) and times t (B,) on the first call; ``ValueError`` where it fails."""
        with _naming(function, x, t):
            super().look(function, x, t)

    def call(self, function: Function, x: Tensor, t: Tensor) -> Tensor:
        """Return ``function(x, t)``; raises ``ValueError`` where it fails or returns no tensor."""
        with _naming(function, x, t):
            value = super().call(function, x, t)
        if not isinstance(value, Tensor):
            raise ValueError(_no_tensor(value, x))
        return value


@contextlib.contextmanager
def _naming(function: Function, x: Tensor, t: Tensor) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        # Where a result is no tensor, the test of its derivative fails first, in words about an operation on it.
        if refused := _refused(function, x, t):
            raise ValueError(refused) from None
        if str(error).startswith("function must"):
            raise
        raise ValueError(
            f"function must take x {tuple(x.shape)} {x.dtype} and t {tuple(t.shape)} {t.dtype}, and raises ValueError: "
            f"{error}; for times of another shape or scale use real_models.adapters.module.flow"
        ) from error


def _refused(function: Function, x: Tensor, t: Tensor) -> str | None:
    """Return what is wrong with a function's result, if it has one that is no tensor."""
    with contextlib.suppress(Exception), torch.no_grad():
        value = function(x.detach().clone(), t.detach().clone())
        return None if isinstance(value, Tensor) else _no_tensor(value, x)
    return None


def _no_tensor(value: Any, x: Tensor) -> str:
    return (
        f"function must return a tensor like x, {tuple(x.shape)} {x.dtype}; got {checks.kind(value)}: wrap it in a "
        "function that returns the tensor alone"
    )
