"""Guided samplers with their options, and the choice of a hyper-parameter on a problem that is not reported.

Every method gets the same number of candidates. Each is run on the same noise and loss, and the one with the least
median score is chosen. A diverged sample counts as infinitely bad, so that a candidate under which most diverge cannot
win.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from scipy.stats import qmc
from torch import Tensor

from analysis import checks
from analysis.flow import Flow
from analysis.guidance.registry import SAMPLERS, Sample
from analysis.losses import Loss

SampleScore = Callable[[Sample], Tensor]


@dataclass(frozen=True)
class Range:
    """Positive values from ``low`` to ``high``, equally likely in their logarithm."""

    low: float
    high: float

    def at(self, share: float) -> float:
        """Return the value at a share in [0, 1] of the way, in the logarithm."""
        return self.low * (self.high / self.low) ** share

    def around(self, value: float) -> Range:
        """Return the quarter of the range, in the logarithm, that lies around a value, cut off at the ends."""
        factor = (self.high / self.low) ** 0.125
        return Range(max(self.low, value / factor), min(self.high, value * factor))

    def near_end(self, value: float, share: float = 0.05) -> bool:
        """Return whether a value lies in the outer ``share`` of the range at either end, in the logarithm."""
        place = math.log(value / self.low) / math.log(self.high / self.low)
        return not share <= place <= 1 - share


def around(space: Mapping[str, Sequence[Any] | Range], best: Mapping[str, Any]) -> dict[str, Sequence[Any] | Range]:
    """Return the part of a space near a candidate: a quarter of every range, in the logarithm, and its own values."""
    return {name: v.around(best[name]) if isinstance(v, Range) else (best[name],) for name, v in space.items()}


def trials(space: Mapping[str, Sequence[Any] | Range], count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Draw ``count`` candidates that fill a space evenly: points of a scrambled Halton sequence.

    Parameters
    ----------
    space : by option, a ``Range`` or a sequence of values, which are equally likely

    Returns
    -------
    list
        The candidates, as dictionaries.
    """
    points = qmc.Halton(len(space), seed=seed).random(checks.steps(count, "count"))
    return [{name: _value(space[name], p) for name, p in zip(space, point, strict=True)} for point in points]


def _value(values: Sequence[Any] | Range, place: float) -> Any:
    return values.at(place) if isinstance(values, Range) else values[int(place * len(values))]


@dataclass(frozen=True)
class Method:
    """A sampler with its options, and at most one hyper-parameter to tune.

    Attributes
    ----------
    sampler : a name in ``SAMPLERS``, or "" for none: exact samples
    family : what methods that differ in their gradient estimator alone have in common, for figures
    options : those of the sampler
    tuned, candidates : the option to tune and its values, in units of the noise level to the power ``noise_power``
    counted : the option that a budget of compute decides, "steps" or "iterations"
    """

    sampler: str
    family: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    tuned: str | None = None
    candidates: tuple[float, ...] = ()
    noise_power: int = 0
    counted: str = "steps"

    def space(self, noise: float) -> dict[str, list[float]]:
        """Return the candidates at a noise level, as ``choose`` takes them; empty where nothing is tuned."""
        return {self.tuned: [c * noise**self.noise_power for c in self.candidates]} if self.tuned else {}

    def run(self, flow: Flow, loss: Loss, x0: Tensor, **options: Any) -> Sample:
        """Return samples from noise x0 (B, *event); ``options`` are added to the method's own."""
        sampler = checks.known("sampler", self.sampler, SAMPLERS)
        return SAMPLERS[sampler](flow, loss, x0, **self.options | options)


@dataclass(frozen=True)
class Chosen:
    """The best options, their score, and all (options, score) that were tried."""

    options: dict[str, Any]
    score: float
    tried: tuple[tuple[dict[str, Any], float], ...]


def choose(
    run: Callable[..., Sample],
    space: Mapping[str, Sequence[Any]],
    *,
    score: SampleScore = lambda sample: sample.value,
    budget: int | None = None,
    seed: int = 0,
) -> Chosen:
    """Choose the options under which ``run(**options)`` has the least median score.

    Parameters
    ----------
    run : a sampler on the problem to tune on, as a function of the options in ``space`` alone
    space : values to choose from, by option; all combinations are candidates
    score : maps a ``Sample`` of B samples to (B,) or (), less is better; the loss by default
    budget : candidates to try, drawn without replacement; all by default
    seed : of that draw

    Returns
    -------
    Chosen
        The options, their score, and all that were tried.

    Raises
    ------
    ValueError
        For an empty space, a budget above its size, and where most samples diverge under every candidate.
    """
    candidates = [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]
    if not space or not candidates:
        raise ValueError(f"space must hold at least one option with at least one value, got {dict(space)!r}")
    tries = len(candidates) if budget is None else checks.count("budget", budget)
    if tries > len(candidates):
        raise ValueError(f"budget must be at most the {len(candidates)} candidates of the space, got {budget}")
    order = torch.randperm(len(candidates), generator=torch.Generator().manual_seed(seed))[:tries].tolist()
    tried = tuple((candidates[i], _median(run(**candidates[i]), score)) for i in sorted(order))
    best = min(tried, key=lambda pair: pair[1])
    if best[1] == math.inf:
        raise ValueError(f"space must hold options under which samples do not diverge; none of {tries} tried is such")
    return Chosen(*best, tried)


def _median(sample: Sample, score: SampleScore) -> float:
    values = torch.where(sample.failed, math.inf, score(sample).double())
    return float(values.nan_to_num(nan=math.inf, posinf=math.inf).median())
