"""The table of estimators: what each needs is tried, and what it costs is measured, on a small mixture."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Mapping

import torch

from analysis import gradients, losses, paths
from analysis.gradients.registry import Estimator
from analysis.losses import Loss
from docs.generator.markdown import code, linked, sentence, summary, table
from figures.style import names
from toy_models.problems import zoo


def estimators() -> str:
    """Return every registered estimator: what it computes, its paper, the loss it takes, and what it costs."""
    head = ("estimator", "what it does", "paper", "loss", "options", "evaluations and products")
    return table(head, [_estimator(e) for e in sorted(gradients.ESTIMATORS.values(), key=_work)])


def _estimator(estimator: Estimator) -> tuple[str, ...]:
    name = names.METHODS.get(estimator.name)
    shown = f"**{name.label if name else estimator.name}**<br>{code(estimator.name)}"
    loss = "any" if _takes_any_loss(estimator) else "Gaussian log-likelihood"
    meaning = sentence(name.meaning if name else summary(estimator.rule))
    return shown, meaning, linked(name.source) if name else "", loss, _options(estimator), _costs(estimator)


def _options(estimator: Estimator) -> str:
    """Return the options of a call, with the values that they have if they are not given."""
    parameters = inspect.signature(estimator.rule).parameters.values()
    own = [p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    return ", ".join(code(p.name if p.default is p.empty else f"{p.name}={p.default!r}") for p in own)


def _costs(estimator: Estimator) -> str:
    """Return the work of the cheapest and of the most expensive variant."""
    work = sorted((*_measured(estimator, variant), _said(variant)) for variant in estimator.variants)
    shown = [work[0], work[-1]] if work[0][:2] != work[-1][:2] else work[:1]
    return "<br>".join(f"{e:.4g} + {p:.4g}{said}" for e, p, said in shown)


def _said(variant: Mapping[str, object]) -> str:
    return " with " + ", ".join(code(f"{k}={v!r}") for k, v in variant.items()) if variant else ""


def _work(estimator: Estimator) -> tuple[float, str]:
    """Return the sort key of an estimator: the work of its cheapest variant."""
    return min(sum(_measured(estimator, variant)) for variant in estimator.variants), estimator.name


def _measured(estimator: Estimator, options: Mapping[str, object]) -> tuple[float, float]:
    """Return evaluations and products per state of one call on eight states of a small mixture."""
    return _call(estimator.name, json.dumps(options), losses.HalfSquaredDistance(torch.zeros(2)))


@functools.cache
def _call(name: str, options: str, loss: Loss) -> tuple[float, float]:
    flow = zoo.build("ring8", paths.CondOT())
    x = torch.randn(8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    cost = gradients.ESTIMATORS[name](flow, loss, x, 0.3, **json.loads(options)).cost
    return cost.evaluations, cost.vjps


def _any_loss(x: torch.Tensor) -> torch.Tensor:
    return (x - 1).square().sum(1) / 2


def _takes_any_loss(estimator: Estimator) -> bool:
    """Say whether an estimator asks of a loss only that it is differentiable."""
    try:
        _call(estimator.name, json.dumps(estimator.variants[0]), _any_loss)
    except ValueError:
        return False
    return True
