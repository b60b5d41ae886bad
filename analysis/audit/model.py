"""A user's model in an audit: guarded against NaN, with its time turned, with extras, and copied to float64."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from analysis.audit.data import Extras, WithExtras
from analysis.audit.refusal import AuditError
from analysis.flow import Flow, Prediction, PredictionFlow
from analysis.probe import select_rows

DIRECTIONS = ("noise_to_data", "data_to_noise")


class Guarded:
    """A user's function whose NaN is named with its time, where the state that it was asked at is finite."""

    def __init__(self, function: Prediction) -> None:
        self.function = function

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Return ``function(x, t)``."""
        value = self.function(x, t)
        if not isinstance(value, Tensor):
            raise AuditError(f"the model must return a tensor, got {type(value).__name__}")
        if value.shape == x.shape and value.device == x.device:
            bad = finite_rows(x) & ~finite_rows(value)
            if bool(bad.any()):
                raise AuditError(f"the model returns NaN or infinity at t = {float(t.detach()[bad][0]):.6g}")
        return value

    def select_rows(self, rows: Tensor) -> Guarded:
        """Return the function of some samples, guarded likewise."""
        return Guarded(select_rows(self.function, rows))


class Turned:
    """A function of s = 1 - t, time from data to noise; the sign of a velocity dx/ds is turned."""

    def __init__(self, function: Callable[..., Any], prediction: str) -> None:
        self.function, self.prediction = function, prediction

    def __call__(self, x: Tensor, t: Tensor, *extras: Tensor) -> Any:
        """Return the prediction at time t from noise to data."""
        value = self.function(x, 1 - t, *extras)
        return -value if self.prediction == "velocity" and isinstance(value, Tensor) else value

    def select_rows(self, rows: Tensor) -> Turned:
        """Return the function of the samples ``rows`` (C,)."""
        return Turned(select_rows(self.function, rows), self.prediction)


def double(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a float64 copy of a network in less, or, where it is no network or cannot be copied, the function."""
    if not isinstance(function, nn.Module):
        return function
    with contextlib.suppress(Exception):
        return copy.deepcopy(function).double()
    return function


def with_function(flow: PredictionFlow, function: Prediction) -> PredictionFlow:
    """Return the flow of another function of the same path and prediction."""
    made = copy.copy(flow)
    made.function = function
    return made


def unguarded(flow: Flow) -> Flow:
    """Return the flow of a guarded function as the user has it, whose NaN raises nothing."""
    if not isinstance(flow, PredictionFlow) or not isinstance(flow.function, Guarded):
        return flow
    return with_function(flow, flow.function.function)


def bound(flow: Flow, extras: Extras) -> Flow:
    """Return the flow of a guarded function that is called with extras."""
    if not isinstance(flow, PredictionFlow) or not isinstance(flow.function, Guarded):
        return flow
    return with_function(flow, Guarded(WithExtras(flow.function.function, extras)))


def modules(flow: Flow) -> list[nn.Module]:
    """Return the networks that a flow is made of."""
    return [module for module in _inside(flow) if isinstance(module, nn.Module)]


def _inside(flow: Any) -> Iterator[Any]:
    yield flow
    function = getattr(flow, "function", None)
    if function is not None and not isinstance(flow, nn.Module):
        yield from _inside(function)


def dtype_of(flow: Flow, x: Tensor) -> torch.dtype:
    """Return the dtype that a flow wants: its own, its parameters', or that of the states."""
    floats = [p.dtype for module in modules(flow) for p in module.parameters() if p.is_floating_point()]
    return flow.dtype or next(iter(floats), x.dtype)


def finite_rows(x: Tensor) -> Tensor:
    """Return (B,) true where all numbers of a sample are finite."""
    return torch.isfinite(x.detach()).flatten(1).all(1)
