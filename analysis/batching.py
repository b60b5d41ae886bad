"""Gradients when memory runs out: in smaller batches, each half of the one that did not fit.

Samples are independent, so gradients of parts are the parts of the gradient, up to round-off. One exception is drawn
per call, and so per part: the noise of an estimator that draws some (``lgd``).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from analysis import checks
from analysis.cost import Cost
from analysis.flow import Flow
from analysis.gradients import ESTIMATORS, Estimate
from analysis.losses import HalfSquaredDistance, HalfSquaredResidual, LinearGaussian, Loss

Part = TypeVar("Part")
# cuBLAS, cuDNN and the allocator of the CPU have no exception of their own.
MESSAGES = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "can't allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in MESSAGES)


def _attempt(call: Callable[[slice], Part], part: slice) -> Part | None:
    """Return the call's result, or ``None`` where memory ran out, without keeping the exception and its frames."""
    try:
        return call(part)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    return None


def in_parts(call: Callable[[slice], Part], samples: int, first: int | None = None) -> list[tuple[slice, Part]]:
    """Call with consecutive parts of a batch, halving their size when memory runs out.

    Each halving gives a ``RuntimeWarning``, and later parts stay small. The first parts hold ``first`` samples each, by
    default all.

    Returns
    -------
    list
        (part, result) of every part, in order.

    Raises
    ------
    MemoryError
        If a single sample does not fit.
    ValueError
        For counts below 1.
    """
    size = min(checks.count("samples", samples), checks.count("first", samples if first is None else first))
    results: list[tuple[slice, Part]] = []
    start = 0
    while start < samples:
        part = slice(start, min(start + size, samples))
        if (result := _attempt(call, part)) is not None:
            results.append((part, result))
            start = part.stop
            continue
        torch.cuda.empty_cache()
        size = _halved(part.stop - part.start)
    return results


def _halved(size: int) -> int:
    if size == 1:
        raise MemoryError(
            "one sample does not fit into memory: take fewer steps, memory='checkpoint', 'recursive' or 'reversible', "
            "bfloat16, or a device with more of it"
        )
    warnings.warn(
        f"out of memory with a batch of {size}: going on in batches of {size // 2}", RuntimeWarning, stacklevel=4
    )
    return size // 2


@dataclass(frozen=True)
class LossOfPart:
    """The loss of some samples of a batch, for a loss that may hold per-sample data.

    It calls the loss on the whole batch, with the other samples at ``states`` (B, *event).
    """

    loss: Loss
    states: Tensor
    part: slice

    def __call__(self, x: Tensor) -> Tensor:
        """Return the losses (n,) of x (n, *event), n being the size of the part."""
        whole = self.states.detach().to(x, copy=True)
        whole[self.part] = x
        value = self.loss(whole)
        return value[self.part] if getattr(value, "shape", None) == whole.shape[:1] else value


def loss_of_part(loss: Loss, x: Tensor, part: slice) -> Loss:
    """Return the loss of a part of the states x (B, *event); a linear-Gaussian loss stays one."""
    if isinstance(loss, HalfSquaredDistance) and type(loss) is HalfSquaredDistance:
        return replace(loss, target=loss.target[part]) if loss.target.shape == x.shape else loss
    if isinstance(loss, LinearGaussian) and type(loss) in (LinearGaussian, HalfSquaredResidual):
        return replace(loss, measurement=loss.measurement[part]) if loss.measurement.ndim > 1 else loss
    return LossOfPart(loss, x, part)


def estimate(
    estimator: str, flow: Flow, loss: Loss, x: Tensor, t: Tensor | float, *, first: int | None = None, **options: Any
) -> Estimate:
    """Compute a registered estimator's gradients at x (B, *event) and t (float or (B,)), in parts if memory runs out.

    ``first`` is the size of the first parts, by default B. The cost is that of all parts: products and evaluations per
    sample, seconds added up without attempts that ran out of memory, and the largest part's bytes.

    Returns
    -------
    Estimate
        Of the whole batch.

    Raises
    ------
    ValueError
        For an estimator that is not registered, and as the estimator does.
    MemoryError
        If a single sample does not fit.
    """
    rule = ESTIMATORS[checks.known("estimator", estimator, ESTIMATORS)]
    x, t = checks.flow(flow).checked(x, t)
    checks.loss(loss)

    def call(part: slice) -> Estimate:
        if part == slice(0, len(x)):
            return rule(flow, loss, x, t, **options)
        times = t[part] if t.ndim and len(t) > 1 else t
        rows = torch.arange(len(x), device=x.device)[part]
        return rule(flow.select_rows(rows), loss_of_part(loss, x, part), x[part], times, **options)

    return joined([result for _, result in in_parts(call, len(x), first)])


def joined(parts: list[Estimate]) -> Estimate:
    """Return one estimate from those of consecutive parts of a batch, with the cost that ``estimate`` describes."""
    if len(parts) == 1:
        return parts[0]
    gradient, endpoint, value = (torch.cat([getattr(e, n) for e in parts]) for n in ("gradient", "endpoint", "value"))
    return Estimate(gradient, endpoint, value, total([e.cost for e in parts], [len(e.value) for e in parts]))


def total(costs: list[Cost], samples: list[int]) -> Cost:
    """Return the cost of parts with these numbers of samples, run one after the other."""
    pairs = list(zip(costs, samples, strict=True))
    evaluations, vjps = (
        sum(getattr(cost, name) * n for cost, n in pairs) / sum(samples) for name in ("evaluations", "vjps")
    )
    known = [cost.bytes for cost in costs if cost.bytes is not None]
    return Cost(evaluations, vjps, sum(cost.seconds for cost in costs), max(known) if known else None)
