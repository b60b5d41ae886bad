r"""Whole solves of a mixture's flow by compiled loops, where numba is installed: forward, and backward from a tape.

The loops (``toy_models.mixtures.compiled``) know the mixture in its eigenbases, and a plan as numbers: alpha, sigma and
the readout's two coefficients of every evaluation, and the rows that combine the state and evaluations. So one compiled
function serves every method, path, mixture and batch, in float64 and another one in float32. It takes seconds to
compile, once per machine: numba keeps it on disk, beside the source or in the user's cache folder.

A sample's result is the same in every batch, since its arithmetic does not depend on the others.
"""

from __future__ import annotations

import functools
import importlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from analysis.flow import Pullback
from analysis.paths import AffinePath
from analysis.plan import StepPlan
from toy_models.mixtures.eigenbasis import Eigenbasis

CALLS, LEAST = 2**14, 2**16  # numbers that take as long as the loop's calls of one evaluation, and setting up here
MOST = 3 * 2**19  # bytes of the bases: larger ones do not stay in a core's cache, and matrix products do better
MOST_REUSED = 2**18  # evaluations of samples of solves whose layout is kept
TAPE = 2**31  # bytes of the tape up to which it is made at once


@functools.cache
def installed() -> bool:
    """Tell whether numba can be used; where it cannot, the first call says so in the log."""
    try:
        there = not importlib.import_module("numba").config.DISABLE_JIT
    except ImportError as error:
        logging.getLogger(__name__).warning(
            '%s: solves of small mixtures take longer without numba; pip install -e ".[fast]"', error
        )
        return False
    return there


def serves(mixture: Eigenbasis, x: Tensor, plans: Sequence[StepPlan]) -> bool:
    """Return whether compiled loops are the better way for these solves, by their sizes alone."""
    (k, d), size = mixture.means.shape, x.element_size()
    evaluations = sum(map(len, plans)) * len(plans[0].times)
    work, tape = evaluations * (CALLS + x.shape[1] * k * (d + 8)), evaluations * x.shape[1] * (k + d) * size
    fits = work >= LEAST and tape <= TAPE and k * d * d * size <= MOST
    return fits and len(x) > 0 and x.shape[1] > 0 and _plain(x) and installed()


def _plain(x: Tensor) -> bool:
    """Return whether x is numbers in this machine's memory, of which nothing keeps derivatives."""
    if x.device.type != "cpu" or x.dtype not in (torch.float64, torch.float32) or x.requires_grad:
        return False
    try:
        x.numpy()
    except RuntimeError:  # as inside torch.func's transforms
        return False
    return unpack_dual(x).tangent is None


class _Columns:
    """How the coefficients of plans are laid out: a column for each cell, or for each sample with its own times."""

    def __init__(self, samples: int, plans: Sequence[StepPlan], lanes: int) -> None:
        self.plans, self.lanes, self.block = plans, lanes, 2 * lanes
        self.cells = plans[0].times[0].shape[1:].numel()
        self.samples = samples // self.cells
        self.own = self.samples < lanes and self.cells > 1
        self.each = self.samples
        if self.own:
            self.cells, self.samples = 1, samples
        self.blocks = math.ceil(self.samples / self.block)
        self.count = self.blocks * self.block if self.own else self.cells

    def of(self, parts: Sequence[Tensor]) -> np.ndarray:
        """Return a coefficient of each plan as (steps of all plans, columns)."""
        cells = self.plans[0].times[0].shape[1:].numel()
        arrays = [part.detach().double().numpy() for part in parts]
        whole = np.concatenate([np.broadcast_to(a.reshape(len(a), -1), (len(a), cells)) for a in arrays])
        if not self.own:
            return whole
        return np.pad(whole.repeat(self.each, 1), ((0, 0), (0, self.count - self.samples)), mode="edge")

    def moments(self, path: AffinePath) -> np.ndarray:
        """Return alpha, sigma and the readouts' coefficients in groups of a register's lanes, (groups, 4, lanes)."""
        plans, stages = self.plans, range(len(self.plans[0].times))
        time = np.stack([self.of([p.times[s] for p in plans]) for s in stages], 1)
        readouts = [np.stack([self.of([p.readouts[s][i] for p in plans]) for s in stages], 1) for i in (0, 2)]
        schedule = [f(torch.from_numpy(time)).double().numpy() for f in (path.alpha, path.sigma)]
        parts = np.stack([*schedule, *readouts]).reshape(4, -1, self.count)  # (4, evaluations of all plans, columns)
        if self.own:
            return parts.reshape(4, -1, self.lanes).swapaxes(0, 1)
        ends = np.cumsum([len(p) * len(stages) for p in plans])[:-1]
        return np.concatenate([self._grouped(part) for part in np.split(parts, ends, 1)])

    def _grouped(self, part: np.ndarray) -> np.ndarray:
        padded = np.pad(part, ((0, 0), (0, -part.shape[1] % self.lanes), (0, 0)), mode="edge")
        return padded.reshape(4, -1, self.lanes, self.count).transpose(3, 1, 0, 2).reshape(-1, 4, self.lanes)

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Return which terms each row combines (stages + 1, terms), and the coefficients (steps, rows, columns)."""
        rows = self.plans[0].rows
        terms = len(rows[-1])
        used = np.array([[j < len(row) and row[j] is not None for j in range(terms)] for row in rows])
        zero = np.zeros((sum(map(len, self.plans)), self.count))
        coefficients = [
            self.of([cast(Tensor, p.rows[i][j]) for p in self.plans]) if used[i, j] else zero
            for i in range(len(rows))
            for j in range(terms)
        ]
        return used, np.stack(coefficients, 1)


def _regular(variances: np.ndarray, moments: np.ndarray) -> bool:
    """Return whether all marginal variances are normal numbers: the loops take their exponents apart."""
    alpha, sigma = np.square(moments[:, 0]), np.square(moments[:, 1])
    limits, least, most = np.finfo(moments.dtype), variances.min(), variances.max()
    return bool((alpha * least + sigma).min() >= limits.tiny and (alpha * most + sigma).max() <= limits.max / 2)


@dataclass(frozen=True)
class _Layout:
    """What the loops need besides states: the fields of a job before its arrays, and the sizes of these."""

    fixed: tuple[Any, ...]
    tape: int
    scratch: int


def _layout(mixture: Eigenbasis, path: AffinePath, x: Tensor, plans: tuple[StepPlan, ...]) -> _Layout | None:
    """Lay out a mixture and plans for states x; ``None`` where variances are out of range."""
    reused = all(p.reused for p in plans) and sum(map(len, plans)) * len(plans[0].times) * x.shape[1] <= MOST_REUSED
    make = _reused if reused and not torch._C._len_torch_dispatch_stack() else _reused.__wrapped__
    versions = tuple(part._version for part in vars(mixture).values())  # a change in place makes another mixture
    return make(mixture, versions, path, x.shape[1], x.dtype, plans)


@functools.lru_cache(maxsize=32)
def _reused(
    mixture: Eigenbasis,
    versions: tuple[int, ...],
    path: AffinePath,
    samples: int,
    dtype: torch.dtype,
    plans: tuple[StepPlan, ...],
) -> _Layout | None:
    from toy_models.mixtures.compiled import vectors

    number = np.dtype(str(dtype).removeprefix("torch."))
    (k, d), lanes = mixture.means.shape, vectors.BYTES // number.itemsize
    columns = _Columns(samples, plans, lanes)
    moments, (used, rows) = columns.moments(path), columns.rows()
    if not _regular(mixture.variances.numpy(), moments.astype(number)):
        return None
    numbers = np.array([1.0, math.log(2), -0.5, math.sqrt(torch.finfo(dtype).tiny)])
    basis = [v.numpy().ravel() for v in (mixture.variances, mixture.means, mixture.log_weights)]
    into = [mixture.into.T.numpy().ravel(), mixture.centres.numpy().ravel()]
    parts = [np.concatenate(into), np.concatenate([*basis, numbers]), moments.ravel(), rows.ravel()]
    starts = np.cumsum([len(part) for part in parts])[:-1].tolist()
    stages, terms, evaluations = len(plans[0].times), used.shape[1], [len(p) * len(plans[0].times) for p in plans]
    tables = 2 * (k * (d + 1) + terms * d) * 2 * lanes
    scratch = tables + (2 if columns.own else math.ceil(max(evaluations) / lanes)) * lanes * (k * (3 * d + 1) + 1)
    tape = sum(evaluations) * columns.cells * columns.blocks * 2 * lanes * (d + k)
    counts = np.concatenate([used.ravel(), [len(p) for p in plans]]).astype(np.int64)
    sizes = [k, d, stages, plans[0].history, columns.cells, columns.samples, columns.own, columns.count, *starts]
    return _Layout((*sizes, tables, counts, np.concatenate(parts).astype(number)), tape, scratch)


def solve_vjp(
    mixture: Eigenbasis, path: AffinePath, x: Tensor, plans: Sequence[StepPlan]
) -> tuple[Tensor, Pullback] | None:
    """Solve all plans from x (plans, B, d), with the pullback from their ends to x.

    Returns
    -------
    tuple or None
        Ends (plans, B, d) and their pullback; ``None`` where matrix products or the generic loop are better, and
        without numba.
    """
    if not serves(mixture, x, plans):
        return None
    from toy_models.mixtures.compiled import kernels, loops

    layout = _layout(mixture, path, x, tuple(plans))
    if layout is None:
        return None
    tape = x.new_empty(layout.tape)

    def run(states: Tensor, backward: bool) -> Tensor:
        ends = torch.empty_like(states, memory_format=torch.contiguous_format)
        arrays: list[Tensor] = [states.to(x.dtype).contiguous(), ends, tape, x.new_empty(layout.scratch)]
        loops.run(kernels.Job(*layout.fixed, *[a.numpy().ravel() for a in arrays]), backward)
        return ends

    return run(x, False), functools.partial(run, backward=True)
