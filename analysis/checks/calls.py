"""Flows, losses, paths and functions, what all public functions that take gradients check, and trust inside them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor

from analysis.checks.numbers import kind

Given = TypeVar("Given")
WRAP = "wrap a network in analysis.flow.from_velocity(network, path), from_denoiser or from_noise_predictor"


def flow(value: Given, name: str = "flow") -> Given:
    """Return ``value``; raises ``TypeError`` unless it has the methods of ``analysis.flow.Flow``."""
    methods = ("predict", "predict_vjp", "checked")
    if isinstance(value, type) or not all(callable(getattr(value, method, None)) for method in methods):
        hint = f"; {WRAP}" if callable(value) else ""
        raise TypeError(f"{name} must be an analysis.flow.Flow, got {kind(value)}{hint}")
    return value


def loss(value: Given, name: str = "loss") -> Given:
    """Return ``value``; raises ``TypeError`` unless it is a callable, to map x (B, *event) to (B,)."""
    if isinstance(value, type) or not callable(value):
        hint = "; for a target write losses.HalfSquaredDistance(target)" if isinstance(value, Tensor | list) else ""
        raise TypeError(
            f"{name} must be a callable x (B, *event) -> (B,), as in analysis.losses; got {kind(value)}{hint}"
        )
    return value


def path(value: Given, name: str = "path") -> Given:
    """Return ``value``; raises ``TypeError`` unless it has the methods of ``analysis.paths.AffinePath``."""
    if isinstance(value, type) or not callable(getattr(value, "readout", None)):
        hint = f"; make one: {value.__name__}()" if isinstance(value, type) else ""
        raise TypeError(f"{name} must be an analysis.paths.AffinePath, such as CondOT(), got {kind(value)}{hint}")
    return value


def function(value: Given, name: str) -> Given:
    """Return ``value``; raises ``TypeError`` unless it is an ``nn.Module`` or a function; a class is neither."""
    if isinstance(value, type) or not callable(value):
        hint = ": make an instance of it" if isinstance(value, type) else ""
        raise TypeError(f"{name} must be an nn.Module or a function, got {kind(value)}{hint}")
    return value


_door_passed: ContextVar[bool] = ContextVar("door_passed", default=False)


@contextmanager
def passed_door() -> Iterator[None]:
    """Trust tensors of times and coordinates in the block, which a public function enters after its own checks.

    A solver asks its path for coefficients several times a step, always at times that follow from checked ones.
    Checking them again would cost a fifth of the time of a small network, and on a GPU a synchronisation each time.
    """
    token = _door_passed.set(True)
    try:
        yield
    finally:
        _door_passed.reset(token)


def door_passed() -> bool:
    """Return whether the running code was called by a public function that checked its arguments."""
    return _door_passed.get()


def may_ask(value: Tensor) -> bool:
    """Return whether code may read a tensor's numbers: not inside a public function where that stalls a GPU."""
    return value.device.type == "cpu" or not _door_passed.get()


def arguments(given_flow: Any, given_loss: Any, x: Any, t: Any, name: str = "x") -> tuple[Tensor, Tensor]:
    """Check the arguments of a public function that takes gradients.

    ``name`` is what messages call x.

    Returns
    -------
    tuple
        x and t, without a graph.

    Raises
    ------
    ValueError
        Inside ``torch.inference_mode()``, where nothing can be differentiated.
    """
    if torch.is_inference_mode_enabled():
        raise ValueError("gradients cannot be taken inside torch.inference_mode(); torch.no_grad() is fine")
    loss(given_loss)
    x, t = (value.detach() for value in flow(given_flow).checked(x, t, name))
    with passed_door():
        given_flow.ask(x, t)
    return x, t
