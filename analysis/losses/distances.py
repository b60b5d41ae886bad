"""Losses of events of any shape: half the squared distance to a target, and a linear function."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from analysis.losses.arrays import fitting, given
from analysis.norms import widened


@dataclass(frozen=True)
class HalfSquaredDistance:
    """L(x) = |x - target|^2 / 2, summed over the event; ``target`` is one event or one per sample.

    Raises
    ------
    TypeError
        For a target that is not an array of real numbers.
    ValueError
        For a target that is not finite; when called, for one that does not fit x.
    """

    target: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", given("target", self.target))

    def __call__(self, x: Tensor) -> Tensor:
        """Return the losses (B,) of x (B, *event)."""
        return (widened(x) - fitting("target", self.target, x)).square().flatten(1).sum(1) / 2


@dataclass(frozen=True)
class Linear:
    """L(x) = <direction, x>, with a constant gradient; ``direction`` is one event or one per sample.

    Raises
    ------
    TypeError
        For a direction that is not an array of real numbers.
    ValueError
        For a direction that is not finite; when called, for one that does not fit x.
    """

    direction: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "direction", given("direction", self.direction))

    def __call__(self, x: Tensor) -> Tensor:
        """Return the losses (B,) of x (B, *event)."""
        return (widened(x) * fitting("direction", self.direction, x)).flatten(1).sum(1)
