"""The cost of a gradient: evaluations of the flow, vector-Jacobian products, seconds, and peak bytes."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from analysis import checks
from analysis.flow import Flow, Pullback
from analysis.paths import AffinePath, Readout
from analysis.plan import StepPlan


@dataclass
class Cost:
    """Work per sample, and wall time and memory of the whole batch.

    Attributes
    ----------
    evaluations, vjps : evaluations of the flow and vector-Jacobian products, per sample
    seconds : wall time, on CUDA the time between two events of the device
    bytes : peak bytes of tensors allocated, inputs not counted; on CUDA what its allocator counts, elsewhere ``None``
        unless measured inside ``track_memory``
    """

    evaluations: float = 0.0
    vjps: float = 0.0
    seconds: float = 0.0
    bytes: int | None = None


class MeteredFlow(Flow):
    """A flow that counts its calls, per sample of a batch of ``batch`` states."""

    def __init__(self, flow: Flow, batch: int, cost: Cost) -> None:
        self.flow, self.batch, self.cost = flow, batch, cost
        self.path, self.event_shape = flow.path, flow.event_shape

    def with_path(self, path: AffinePath) -> Flow:
        """Return the flow along another path, by its own ``with_path``, with the same counter."""
        return MeteredFlow(self.flow.with_path(path), self.batch, self.cost)

    def select_rows(self, rows: Tensor) -> Flow:
        """Return the flow of some samples, with the same counter, per sample of the whole batch."""
        return MeteredFlow(self.flow.select_rows(rows), self.batch, self.cost)

    def _share(self, x: Tensor) -> float:
        event = len(self.event_shape) if self.event_shape is not None else x.ndim - 1
        return x.shape[: x.ndim - event].numel() / self.batch

    def predict(self, x: Tensor, t: Tensor, readout: Readout) -> Tensor:
        """Count one evaluation, and return the readout (B, *event)."""
        self.cost.evaluations += self._share(x)
        return self.flow.predict(x, t, readout)

    def predict_vjp(self, x: Tensor, t: Tensor, readout: Readout) -> tuple[Tensor, Pullback]:
        """Count one evaluation, and one VJP for each use of the returned pullback."""
        self.cost.evaluations += self._share(x)
        value, pull = self.flow.predict_vjp(x, t, readout)

        def counted(v: Tensor) -> Tensor:
            self.cost.vjps += self._share(v)
            return pull(v)

        return value, counted

    def solve_vjp(self, x: Tensor, plans: Sequence[StepPlan]) -> tuple[Tensor, Pullback] | None:
        """Count one evaluation per stage, and one VJP each for every use of the pullback, as the flow solves."""
        solved = self.flow.solve_vjp(x, plans)
        if solved is None:
            return None
        share = sum(len(p) * len(p.times) for p in plans) * self._share(x[0])
        self.cost.evaluations += share
        end, pull = solved

        def counted(v: Tensor) -> Tensor:
            self.cost.vjps += share
            return pull(v)

        return end, counted


class _AllocationTracker(TorchDispatchMode):
    """Track the life of every storage that an operation returns; unlike the allocator's counters, deterministic."""

    def __init__(self) -> None:
        super().__init__()
        self.live, self.peak = 0, 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return tree_map_only(Tensor, self._track, func(*args, **(kwargs or {})))

    def _track(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage not in self._seen:
            self._seen.add(storage)
            weakref.finalize(storage, self._release, storage.nbytes())
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
        return tensor

    def _release(self, nbytes: int) -> None:
        self.live -= nbytes


_tracking: ContextVar[bool] = ContextVar("tracking", default=False)


@contextmanager
def track_memory() -> Iterator[None]:
    """Measure ``Cost.bytes`` of the estimators called in the block, in this thread; small tensors become slower."""
    token = _tracking.set(True)
    try:
        yield
    finally:
        _tracking.reset(token)


@contextmanager
def measured(cost: Cost, device: torch.device) -> Iterator[None]:
    """Add the time of the block to ``cost``, and its peak bytes: on CUDA always, elsewhere where tracking is on.

    On CUDA both come from the device: the time between two events on the current stream, and the most that the
    allocator held beyond what it held before.
    """
    with _on_cuda(cost, device) if device.type == "cuda" else _on_host(cost):
        yield


@contextmanager
def metered(flow: Flow, x: Tensor) -> Iterator[tuple[MeteredFlow, Cost]]:
    """Meter the flow in the block, per sample of x (B, *event).

    The block is where a public function works with arguments that it has checked.

    Yields
    ------
    tuple
        The counting flow, and the cost, which is complete after the block.
    """
    cost = Cost()
    with measured(cost, x.device), checks.passed_door():
        yield MeteredFlow(flow, len(x), cost), cost


@contextmanager
def _on_host(cost: Cost) -> Iterator[None]:
    tracker = _AllocationTracker() if _tracking.get() else None
    start = time.perf_counter()
    with tracker or nullcontext():
        yield
    if tracker:
        cost.bytes = tracker.peak
    cost.seconds += time.perf_counter() - start


@contextmanager
def _on_cuda(cost: Cost, device: torch.device) -> Iterator[None]:
    torch.cuda.synchronize(device)
    before, stream = torch.cuda.memory_allocated(device), torch.cuda.current_stream(device)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    with _cuda_peak(device) as peak:
        start.record(stream)
        yield
        end.record(stream)
        end.synchronize()
    cost.bytes = peak[0] - before
    cost.seconds += start.elapsed_time(end) / 1000


_cuda_peaks: dict[torch.device, list[list[int]]] = {}  # of the blocks that are open, outermost first


@contextmanager
def _cuda_peak(device: torch.device) -> Iterator[list[int]]:
    """Measure the most bytes allocated in the block.

    The device has one counter, so a block inside another (an estimator's inside a sampler's) passes its peak on.

    Yields
    ------
    list
        Its one entry is the peak, after the block.
    """
    blocks, peak = _cuda_peaks.setdefault(device, []), [0]

    def note(block: list[int]) -> None:
        block[0] = max(block[0], torch.cuda.max_memory_allocated(device))

    if blocks:
        note(blocks[-1])
    torch.cuda.reset_peak_memory_stats(device)
    blocks.append(peak)
    try:
        yield peak
    finally:
        note(blocks.pop())
        if blocks:
            blocks[-1][0] = max(blocks[-1][0], peak[0])
