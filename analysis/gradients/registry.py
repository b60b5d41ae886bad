"""The registry of estimators, and the result of an estimator.

An estimator's author writes ``(flow, loss, x, t, **options) -> (gradient, endpoint)`` and decorates it with
``register``, which adds the checks of the arguments and the count of the cost. A rule that knows the loss at its
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

from analysis import checks
from analysis.cost import Cost, metered
from analysis.flow import Flow
from analysis.gradients.graph import keeping_graph
from analysis.losses import Loss, value_and_gradient

GradientRule = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class Estimate:
    """One guidance gradient per sample, or a stack of them.

    An estimator returns the shapes below. ``control_gradients`` returns a gradient in each of n controls, (n, B,
    *event); ``lookahead_surface`` puts (steps, horizons) before all shapes.

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
        """A mask (B,), or of the leading axes of ``gradient``: true where a gradient has NaN or infinity."""
        event_axes = self.endpoint.ndim - self.value.ndim
        return ~torch.isfinite(self.gradient).flatten(-event_axes).all(-1)


def with_value(result: tuple[Tensor, ...], loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
    """Return a rule's gradient, endpoint and value, evaluating the loss where the rule did not."""
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

    def __call__(
        self, flow: Flow, loss: Loss, x: Tensor, t: Tensor | float, *, create_graph: bool = False, **options: Any
    ) -> Estimate:
        """Compute the estimate at states x (B, *event) and times t (float or (B,)).

        It has no graph, whatever requires a gradient. With ``create_graph`` it has one to x, which must require a
        gradient, and can be differentiated once more; its memory is then that of all steps under any checkpointing
        strategy.

        Returns
        -------
        Estimate
            Of B samples.

        Raises
        ------
        TypeError
            For a flow, loss, x or t of another kind, and for an option that the estimator does not take.
        ValueError
            For x, t or an option with a value that is not allowed, for a loss or a flow that cannot be differentiated,
            and where ``create_graph`` is not possible; the message names which.
        """
        state, time = checks.arguments(flow, loss, x, t)
        if create_graph:
            state, given = flow.checked(x, t)
            flow, loss = keeping_graph(self.name, flow, loss, state, given)
        with metered(flow, state) as (counted, cost):
            result = self._like(state, self.rule(counted, loss, state, time, **options))
        parts = with_value(result, loss)
        gradient, endpoint, value = parts if create_graph else (part.detach() for part in parts)
        estimate = Estimate(gradient, endpoint, value, cost)
        if bool(estimate.failed.any()):
            n = int(estimate.failed.sum())
            warnings.warn(f"{self.name}: {n} of {len(state)} gradients are not finite", RuntimeWarning, stacklevel=2)
        return estimate

    def _like(self, x: Tensor, result: Any) -> tuple[Tensor, ...]:
        """Return a rule's gradient, endpoint and value, if any, or raise ``ValueError`` for one of another shape."""
        shapes = [x.shape, x.shape, x.shape[:1]]
        parts = result if isinstance(result, tuple) else (result,)
        if len(parts) not in (2, 3) or [getattr(p, "shape", None) for p in parts] != shapes[: len(parts)]:
            raise ValueError(
                f"the rule of {self.name!r} must return gradient and endpoint like x, {tuple(x.shape)}, and may return "
                f"the value, {tuple(x.shape[:1])}; got {', '.join(map(checks.kind, parts))}"
            )
        return parts


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


ESTIMATORS: checks.Registry[Estimator] = checks.Registry("estimator")


def register(name: str, variants: Sequence[Mapping[str, Any]] = ({},)) -> Callable[[GradientRule], Estimator]:
    """Decorate a rule to add it to every sweep as an estimator; ``ValueError`` for a name that is taken."""

    def add(rule: GradientRule) -> Estimator:
        if name in ESTIMATORS:
            raise ValueError(f"name {name!r} is taken by another estimator")
        ESTIMATORS[name] = Estimator(name, rule, variants)
        return ESTIMATORS[name]

    return add
