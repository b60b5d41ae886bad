"""Hyper-parameters by the same budget for every method, on a split that is not the one reported.

Every method gets the same number of settings, drawn without replacement from the grid that its user gives; each is run
on the same held-out noise and loss, and the one with the least median score is taken. A diverged sample counts as
infinitely bad, so that a setting under which most diverge cannot win.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from analysis import checks
from analysis.flow import Flow
from analysis.guidance.registry import SAMPLERS, Sample
from analysis.losses import Loss


@dataclass(frozen=True)
class Chosen:
    """The best options, their score, and all (options, score) that were tried."""

    options: dict[str, Any]
    score: float
    tried: tuple[tuple[dict[str, Any], float], ...]


def choose(
    sampler: str,
    flow: Flow,
    loss: Loss,
    x0: Tensor,
    space: Mapping[str, Sequence[Any]],
    *,
    budget: int,
    seed: int,
    score: Callable[[Sample], Tensor] = lambda sample: sample.value,
    **fixed: Any,
) -> Chosen:
    """Return the best of ``budget`` settings of a sampler on the split (x0, loss).

    Parameters
    ----------
    space : values to choose from, by option; ``fixed`` are options that every setting has
    budget : settings to try, at least 1 and at most as many as the space has
    seed : of the draw
    score : maps a ``Sample`` to (B,), less is better; the loss by default

    Raises ``ValueError`` for an unknown sampler, a budget out of range, and where every setting diverged.
    """
    checks.known("sampler", sampler, SAMPLERS)
    settings = [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]
    if checks.count("budget", budget) > len(settings):
        raise ValueError(f"budget must be at most the {len(settings)} settings of the space, got {budget}")
    order = torch.randperm(len(settings), generator=torch.Generator().manual_seed(seed))[:budget].tolist()
    tried = []
    for options in (settings[i] for i in sorted(order)):
        found = SAMPLERS[sampler](flow, loss, x0, **fixed, **options)
        scores = torch.where(found.failed, math.inf, score(found).double()).nan_to_num(nan=math.inf, posinf=math.inf)
        tried.append((options, float(scores.median())))
    best = min(tried, key=lambda pair: pair[1])
    if best[1] == math.inf:
        raise ValueError(f"space must hold a setting under which {sampler} does not diverge; none of {budget} is one")
    return Chosen(*best, tuple(tried))
