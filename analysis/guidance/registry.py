"""The registry of guided samplers, their result, and the treatment of samples that diverge.

A sampler's author writes ``(flow, loss, x0, monitor, **options) -> x`` and decorates it with ``register``, which adds
the checks of the arguments, the count of the cost and the value of the loss.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from analysis import checks
from analysis.cost import Cost, metered
from analysis.flow import Flow
from analysis.losses import Equivalent, Loss, value_and_gradient
from analysis.norms import norms
from analysis.paths import expand

DIVERGENCE = 1e6


@dataclass(frozen=True)
class Sample:
    """Guided samples.

    Attributes
    ----------
    x : (B, *event), at time 1; where a sample diverged, the last state or iterate before it did
    value : (B,), the loss there; infinite where it overflows
    cost : evaluations and products per sample, those of the estimators included; seconds and bytes of the batch
    failed_at : (B,) integers, the solver step or iteration, counted from 0, at which a sample diverged; -1 for none
    """

    x: Tensor
    value: Tensor
    cost: Cost
    failed_at: Tensor

    @property
    def failed(self) -> Tensor:
        """A mask (B,): true where the sample diverged."""
        return self.failed_at >= 0


class DivergenceMonitor:
    """Freezes each sample at its last finite state whose norm is at most a multiple of its initial one.

    The multiple is of the norm of x0, or of sqrt(d) where that is more. Samples are judged separately.
    """

    def __init__(self, x0: Tensor, multiple: float) -> None:
        self.bound = multiple * norms(x0).clamp_min(math.sqrt(x0[0].numel()))
        self.failed_at = torch.full((len(x0),), -1, device=x0.device)
        self.noted = torch.zeros_like(self.failed_at, dtype=torch.bool)  # where a loss was asked out of bounds

    def far(self, x: Tensor) -> Tensor:
        """Return a mask (B,): true where x is not finite or too long."""
        return ~((norms(x.detach()) <= self.bound) & torch.isfinite(x.detach()).flatten(1).all(1))

    def guard_loss(self, loss: Loss) -> Loss:
        """Return the loss with points out of bounds moved to the origin, and their samples noted as diverged.

        A loss may overflow at such points, which must not stop the other samples. Overflows within bounds, as in half
        precision, are treated the same, and so is NaN for some of the samples. NaN for all of them is a fault of the
        loss, and stays for the error that names it.

        Returns
        -------
        Loss
            From (B, *event) to (B,).
        """

        def at_origin(far: Tensor, x: Tensor) -> Tensor:
            return loss(torch.where(expand(far, x).bool(), torch.zeros_like(x), x))

        def safe(x: Tensor) -> Tensor:
            far = self.far(x)
            value = at_origin(far, x)
            overflows = _lost(value.detach()) if isinstance(value, Tensor) else far
            if overflows.shape == far.shape and bool(overflows.any()):
                far = far | overflows
                value = at_origin(far, x)
            self.noted |= far
            return value

        return Equivalent(safe, loss)

    def accept(self, new: Tensor, old: Tensor, step: int) -> Tensor:
        """Return ``new`` for samples that always were within bounds, and ``old`` for the others (B, *event)."""
        bad = (self.far(new) | self.noted) & (self.failed_at < 0)
        self.failed_at = torch.where(bad, step, self.failed_at)
        return torch.where(expand(self.failed_at < 0, new).bool(), new, old)

    def accept_final(self, new: Tensor, old: Tensor, step: int) -> Tensor:
        """Return ``new`` (B, *event), even for a frozen iterate, but ``old`` where ``new`` is out of bounds."""
        self.accept(new, old, step)
        return torch.where(expand(self.far(new), new).bool(), old, new)


def _lost(value: Tensor) -> Tensor:
    """Return a mask: true where a value is infinite, or NaN beside others that are not."""
    missing = torch.isnan(value)
    return torch.isinf(value) | (missing & ~missing.all())


SamplerRule = Callable[..., Tensor]


@dataclass(eq=False)
class Sampler:
    """A registered sampler: call it with (flow, loss, x0, **options); its signature is that of the call."""

    name: str
    rule: SamplerRule

    def __post_init__(self) -> None:
        functools.update_wrapper(self, self.rule)
        self.__signature__ = _public_signature(self.rule)

    def __call__(self, flow: Flow, loss: Loss, x0: Tensor, *, divergence: float = DIVERGENCE, **options: Any) -> Sample:
        """Draw guided samples from the noise x0 (B, *event).

        A sample diverges if its state, or a point at which its loss is taken, is not finite or longer than
        ``divergence`` times its x0 (or sqrt(d), where that is more).

        Returns
        -------
        Sample
            Of B samples.

        Raises
        ------
        TypeError
            For an argument of another kind, an option that the sampler does not take, and a missing one that it needs.
        ValueError
            For a value of x0, divergence or an option that is not allowed; the message names it.
        """
        try:
            self.__signature__.bind(flow, loss, x0, divergence=divergence, **options)
        except TypeError as error:
            raise TypeError(
                f"{self.name}: {error}; its options are {', '.join(self.__signature__.parameters)}"
            ) from None
        x0, _ = checks.arguments(flow, loss, x0, 0.0, "x0")
        divergence = checks.at_least("divergence", divergence, 1)
        monitor = DivergenceMonitor(x0, divergence)
        with metered(flow, x0) as (counted, cost):
            x = self.rule(counted, monitor.guard_loss(loss), x0, monitor, **options).detach()
        last = DivergenceMonitor(x0, divergence)
        value = value_and_gradient(last.guard_loss(loss), x)[0]
        return Sample(x, torch.where(last.noted, math.inf, value), cost, monitor.failed_at)


def _public_signature(rule: SamplerRule) -> inspect.Signature:
    """Return the signature of a sampler's call: the rule's without its monitor, with ``divergence``."""
    own = [p for name, p in inspect.signature(rule, eval_str=True).parameters.items() if name != "monitor"]
    bound = inspect.Parameter("divergence", inspect.Parameter.KEYWORD_ONLY, default=DIVERGENCE, annotation=float)
    return inspect.Signature([*own, bound], return_annotation=Sample)


SAMPLERS: checks.Registry[Sampler] = checks.Registry("sampler")


def register(name: str) -> Callable[[SamplerRule], Sampler]:
    """Decorate a rule to register it as a sampler; raises ``ValueError`` for a name that is taken."""

    def add(rule: SamplerRule) -> Sampler:
        if name in SAMPLERS:
            raise ValueError(f"name {name!r} is taken by another sampler")
        SAMPLERS[name] = Sampler(name, rule)
        return SAMPLERS[name]

    return add
