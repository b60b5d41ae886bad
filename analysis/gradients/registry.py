"""The registry of estimators, and what each of them returns.

An estimator's author writes ``(flow, loss, x, t, **options) -> (gradient, endpoint)`` and decorates it with
``register``; checks of the arguments and the count of the cost are added here, once. A rule that knows the loss at its
endpoint, (B,), returns it as a third item, so that it is not evaluated a second time.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from analysis.cost import Cost, metered
from analysis.flow import Flow
from analysis.losses import Loss, value_and_gradient

GradientRule = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class Estimate:
    """One guidance gradient per sample, or a stack of them.

    An estimator returns the shapes below as they are. ``control_gradients`` returns a gradient in each of n controls,
    (n, B, *event); ``lookahead_surface`` puts (steps, horizons) before all shapes.

    Attributes
    ----------
    gradient : (B, *event), the gradient in x of the loss of what x is predicted to become
    endpoint : (B, *event), that prediction
    value : (B,), the loss there
    cost : what the whole batch took, per sample where it counts work
    """

    gradient: Tensor
    endpoint: Tensor
    value: Tensor
    cost: Cost

    @property
    def failed(self) -> Tensor:
        """(B,), or of the leading axes of ``gradient``: true where a gradient holds NaN or infinity."""
        event_axes = self.endpoint.ndim - self.value.ndim
        return ~torch.isfinite(self.gradient).flatten(-event_axes).all(-1)


def with_value(result: tuple[Tensor, ...], loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradient, endpoint and value of what a rule returned, with the loss evaluated where the rule did not."""
    gradient, endpoint, *value = result
    return gradient, endpoint, value[0] if value else value_and_gradient(loss, endpoint)[0]


@dataclass(eq=False, repr=False)
class Estimator:
    """A registered estimator: call it with (flow, loss, x, t, **options); its signature is that of the call.

    ``variants`` are the options with which sweeps over all estimators call it.
    """

    name: str
    rule: GradientRule
    variants: Sequence[Mapping[str, Any]] = field(default=({},))

    def __post_init__(self) -> None:
        functools.update_wrapper(self, self.rule)
        self.__signature__ = _public_signature(self.rule)

    def __repr__(self) -> str:
        """Return what help(...) shows of an estimator."""
        return f"{self.name}{self.__signature__}"

    def __call__(self, flow: Flow, loss: Loss, x: Tensor, t: Tensor | float, **options: Any) -> Estimate:
        """Return the estimate at states x (B, *event) and times t (float or (B,))."""
        x, t = flow.checked(x, t)
        with metered(flow, x) as (counted, cost):
            result = self.rule(counted, loss, x, t, **options)
        estimate = Estimate(*with_value(result, loss), cost)
        if bool(estimate.failed.any()):
            n = int(estimate.failed.sum())
            warnings.warn(f"{self.name}: {n} of {len(x)} gradients are not finite", RuntimeWarning, stacklevel=2)
        return estimate


def _public_signature(rule: GradientRule) -> inspect.Signature:
    """Return the signature of an estimator's call: its arguments, with the options of the rule in their place."""
    call = list(inspect.signature(Estimator.__call__, eval_str=True).parameters.values())[1:-1]
    named = {p.name for p in call}
    try:
        given = inspect.signature(rule, eval_str=True).parameters.values()
    except NameError:  # types that only a type checker imports
        given = inspect.signature(rule).parameters.values()
    own = [p for p in given if p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD) and p.name not in named]
    return inspect.Signature(sorted([*call, *own], key=lambda p: p.kind), return_annotation=Estimate)


ESTIMATORS: dict[str, Estimator] = {}


def register(name: str, variants: Sequence[Mapping[str, Any]] = ({},)) -> Callable[[GradientRule], Estimator]:
    """Add an estimator to every sweep, under a name that is not taken."""

    def add(rule: GradientRule) -> Estimator:
        if name in ESTIMATORS:
            raise ValueError(f"name {name!r} is taken by another estimator")
        ESTIMATORS[name] = Estimator(name, rule, variants)
        return ESTIMATORS[name]

    return add
