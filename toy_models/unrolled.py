r"""Whole solves of a mixture's flow, forward and backward, with everything that depends on time alone computed first.

States are columns with a 1 appended, (cells, d + 1, samples), where the samples of a cell share their times: vector
instructions then run along samples, and the shift by the means is part of the product. With U_k the eigenbasis of
component k, two matrices per evaluation do it all:

- ``whiten``, W, maps x to :math:`y_k = S_k^{-1/2} U_k^T (x - \alpha\mu_k)` and one entry more, which does not depend
  on x and carries the component's weight: :math:`|y_k|^2 = -2 \log(w_k N_k) + const`;
- ``read``, V, has the readout for its transpose: :math:`u = \sum_k r_k V_k^T y_k`, where r = softmax(-|y|^2 / 2).

The product with the Jacobian is :math:`\sum_k W_k^T (r_k V_k v - g_k y_k)`, g being softmax's own pullback of
:math:`y_k \cdot V_k v`. States and responsibilities are kept for the way back; y is computed again, since memory that
is written once and read once costs more than its product.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from analysis.flow import Pullback
from analysis.solvers import Stages

if TYPE_CHECKING:
    from toy_models.mixture import MixtureFlow

CPU_BATCH = 2**16  # entries of y in one pass: three such arrays stay in a core's second-level cache
LEAST = 2**11  # such entries in all: with fewer, setting up takes longer than it saves
BATCH = 2**26  # elsewhere, where the number of calls is what counts
Row = list[tuple[int, Tensor | None]]  # a linear combination: which term, and its coefficient, or None for one
Tape = list[tuple[Tensor, Tensor]]  # state and responsibilities of each evaluation


@dataclass(frozen=True)
class _Step:
    """One step of some cells: W and V of every stage, and the rows that combine (state, evaluations) into states."""

    whiten: Sequence[Tensor]
    read: Sequence[Tensor]
    rows: Sequence[Row]


class _Lane:
    """Cells and samples that fit into cache together: states under way, states at rest, and the tape."""

    def __init__(self, x: Tensor, rest: Tensor, components: int, tape: Tape) -> None:
        self.x, self.rest, self.components, self.tape, self.at = x, rest, components, tape, len(tape)
        self.negligible = math.sqrt(torch.finfo(x.dtype).tiny)
        self._make_scratch()

    def resize(self, live: int) -> None:
        """Have the first ``live`` cells under way."""
        if live != len(self.x):
            self.x, self.rest = torch.cat([self.x, self.rest]).tensor_split([live])
            self._make_scratch()

    def _make_scratch(self) -> None:
        live, rows, samples = self.x.shape
        self.y, self.v, self.product = (self.x.new_empty(live, self.components, rows, samples) for _ in range(3))
        self.flat_y, self.flat_v, self.flat_product = (s.flatten(1, 2) for s in (self.y, self.v, self.product))
        self.sums = self.x.new_empty(live, self.components, 1, samples)

    def advance(self, step: _Step) -> None:
        """Take one step."""
        terms, last = [self.x], len(step.whiten) - 1
        for i, read in enumerate(step.read):
            self._evaluate(step.whiten[i], _combine(step.rows[i], terms))
            if i < last:
                terms.append(torch.bmm(read.mT, self.flat_product))
        self.x = torch.baddbmm(_combine(step.rows[-1], terms), read.mT, self.flat_product)

    def _evaluate(self, whiten: Tensor, state: Tensor) -> None:
        """Leave r_k y_k in ``product``."""
        torch.bmm(whiten, state, out=self.flat_y)
        torch.sum(torch.square(self.y, out=self.product), 2, keepdim=True, out=self.sums)
        # Products with smaller ones would be denormal numbers, which a CPU multiplies a hundred times slower.
        r = torch.threshold_(torch.softmax(self.sums.mul_(-0.5), 1), self.negligible, 0.0)
        torch.mul(self.y, r, out=self.product)
        self.tape.append((state, r))

    def reverse(self, step: _Step) -> None:
        """Take the last step back, with ``x`` the cotangent."""
        adjoints: list[Tensor | None] = [None] * len(step.whiten)
        _spread(step.rows[-1], self.x, adjoints)
        adjoints.append(self.x)
        for i in range(len(step.whiten) - 1, 0, -1):
            pulled = self._pull(step.whiten[i], step.read[i], adjoints.pop())
            _spread(step.rows[i], torch.bmm(step.whiten[i].mT, pulled), adjoints)
        pulled = self._pull(step.whiten[0], step.read[0], adjoints.pop())
        self.x = torch.baddbmm(cast(Tensor, adjoints[0]), step.whiten[0].mT, pulled)

    def _pull(self, whiten: Tensor, read: Tensor, v: Tensor | None) -> Tensor:
        """Return r_k V_k v - g_k y_k of the last evaluation that is not pulled back yet."""
        assert v is not None, "nothing uses this stage"
        self.at -= 1
        state, r = self.tape[self.at]
        torch.bmm(whiten, state, out=self.flat_y)
        torch.bmm(read, v, out=self.flat_v)
        torch.sum(torch.mul(self.v, self.y, out=self.product), 2, keepdim=True, out=self.sums)
        g = torch._softmax_backward_data(self.sums, r, 1, r.dtype)
        self.v.mul_(r).addcmul_(self.y, g, value=-1)
        return self.flat_v


def _combine(row: Row, terms: Sequence[Tensor]) -> Tensor:
    """Return a combination of a state, which has a row of ones, and of evaluations, where that row is zero."""
    (_, scale), *rest = row
    out = terms[0]
    if scale is not None:
        out = out * scale
        out[:, -1] = 1
    for j, c in rest:
        out = out + terms[j] if c is None else torch.addcmul(out, c, terms[j])
    return out


def _spread(row: Row, v: Tensor, adjoints: list[Tensor | None]) -> None:
    """Add the cotangent v of a combination to those of its terms."""
    for j, c in row:
        before = adjoints[j]
        if before is None:
            adjoints[j] = v if c is None else v * c
        else:
            adjoints[j] = before + v if c is None else torch.addcmul(before, c, v)


def _coefficient(stages: Stages, row: int, term: int) -> Tensor:
    c = stages.rows[row][term]
    return torch.zeros_like(stages.times[0]) if c is None else c


class _Schedule:
    """What no state changes: coefficients and diagonal factors, (steps, stages, cells, ...); cells longest first."""

    def __init__(self, flow: MixtureFlow, plans: Sequence[Stages], cells: int) -> None:
        def merged(coefficients: Iterable[Tensor]) -> Tensor:
            """Return (steps, all cells, 1, 1), with zeros beyond a cell's last step."""
            padded = pad_sequence([c.reshape(len(c), -1).expand(-1, cells) for c in coefficients])
            return padded.flatten(1)[..., None, None]

        def staged(found: Iterable[Iterable[Tensor]]) -> Tensor:
            """Return (steps, stages, all cells, 1, 1)."""
            return torch.stack([merged(stage) for stage in zip(*found, strict=True)], 1)

        self.flow, self.lengths = flow, [len(p) for p in plans for _ in range(cells)]
        rows = [
            [(j, merged(_coefficient(p, i, j) for p in plans)) for j, c in enumerate(row) if not j or c is not None]
            for i, row in enumerate(plans[0].rows)
        ]
        # The last evaluation enters the end of the step and nothing else: its weight there goes into its matrix.
        last = rows[-1].pop()[1]
        self.rows: list[Row] = [[(j, None if bool((c == 1).all()) else c.to(flow.dtype)) for j, c in r] for r in rows]
        a, c = (staged([r[k] for r in p.readouts] for p in plans).to(flow.dtype) for k in (0, 2))
        self._make_factors(staged(p.times for p in plans), a, c)
        for factor in (self.gain, self.pull):
            factor[:, -1] *= last.to(flow.dtype)

    def _make_factors(self, time: Tensor, a: Tensor, c: Tensor) -> None:
        flow = self.flow
        alpha, sigma = flow.path.alpha(time).to(flow.dtype), flow.path.sigma(time).to(flow.dtype)
        variance = alpha**2 * flow._variances + sigma**2
        weight = flow._log_weights - variance.log().sum(-1) / 2
        self.root = variance.rsqrt()
        self.shift = -alpha * self.root * flow._means
        self.level = (1 + 2 * (weight.amax(-1, keepdim=True) - weight)).sqrt()
        self.gain = (a * alpha * flow._variances + c) * self.root
        self.pull = a * flow._centres / self.level[..., None]

    def segments(self, cells: range, batch: int) -> list[tuple[int, int, slice]]:
        """Return stretches of steps that the same cells take and whose matrices fit into cache: first, last, cells."""
        k, d = self.flow._means.shape
        lengths, found, first = self.lengths[cells.start : cells.stop], [], 0
        while first < lengths[0]:
            live = sum(n > first for n in lengths)
            fits = max(1, batch // (self.root.shape[1] * live * k * (d + 1) ** 2))
            last = min(lengths[live - 1], first + fits)
            found.append((first, last, slice(cells.start, cells.start + live)))
            first = last
        return found

    def steps(self, first: int, last: int, cells: slice) -> list[_Step]:
        """Return the matrices and rows of steps first to last of some cells."""
        cut, d = (slice(first, last), slice(None), cells), self.flow.mixture.dim
        root, basis = self.root[cut], self.flow._into.T.unflatten(0, (-1, d))
        whiten, read = (root.new_zeros(*root.shape[:-1], d + 1, d + 1) for _ in range(2))
        torch.mul(basis, root[..., None], out=whiten[..., :d, :d])
        torch.mul(basis, self.gain[cut][..., None], out=read[..., :d, :d])
        whiten[..., :d, d], whiten[..., d, d], read[..., d, :d] = self.shift[cut], self.level[cut], self.pull[cut]
        products = ([step.unbind() for step in matrices.flatten(3, 4).unbind()] for matrices in (whiten, read))
        rows = [[(j, c if c is None else c[first:last, cells].unbind()) for j, c in row] for row in self.rows]
        return [
            _Step(w, v, [[(j, c if c is None else c[i]) for j, c in row] for row in rows])
            for i, (w, v) in enumerate(zip(*products, strict=True))
        ]


class _Part:
    """Cells that are solved together; if their samples do not fit into cache, lanes of them share the matrices."""

    def __init__(self, schedule: _Schedule, cells: range, width: int, batch: int) -> None:
        self.schedule, self.width, self.components = schedule, width, len(schedule.flow._means)
        self.cells, self.segments = slice(cells.start, cells.stop), schedule.segments(cells, batch)
        self.tapes: list[Tape] = []

    def forward(self, x: Tensor) -> Tensor:
        """Return the ends of the part's cells from the starts of all, (all cells, d + 1, samples)."""
        parts = x[self.cells].split(self.width, 2)
        lanes = [_Lane(part.contiguous(), part[:0], self.components, []) for part in parts]
        self._run(lanes, _Lane.advance, 1)
        self.tapes = [lane.tape for lane in lanes]
        return torch.cat([torch.cat([lane.x, lane.rest]) for lane in lanes], 2)

    def backward(self, v: Tensor) -> Tensor:
        """Return the cotangents of the part's starts from those of all ends."""
        parts = zip(v[self.cells].split(self.width, 2), self.tapes, strict=True)
        lanes = [_Lane(part[:0], part, self.components, tape) for part, tape in parts]
        self._run(lanes, _Lane.reverse, -1)
        return torch.cat([lane.x for lane in lanes], 2)

    def _run(self, lanes: Sequence[_Lane], move: Callable[[_Lane, _Step], None], order: int) -> None:
        for first, last, cells in self.segments[::order]:
            for lane in lanes:
                lane.resize(cells.stop - cells.start)
            for step in self.schedule.steps(first, last, cells)[::order]:
                for lane in lanes:
                    move(lane, step)


def solve_vjp(flow: MixtureFlow, x: Tensor, plans: Sequence[Stages]) -> tuple[Tensor, Pullback] | None:
    """Return the ends of plans from x (plans, B, d) and their pullback; ``None`` where the generic loop is better.

    That is for methods that remember a step, for little work, and where fewer than d samples share their times.
    """
    (k, d), stages = flow._means.shape, plans[0]
    cells = stages.times[0].shape[1:].numel()
    samples, total = x.shape[1] // cells, cells * len(plans)
    work = sum(map(len, plans)) * len(stages.times) * x.shape[1] * k * d
    if stages.memory or stages.rows[-1][-1] is None or samples < d or work < LEAST or x.requires_grad:
        return None
    batch, entries = CPU_BATCH if x.device.type == "cpu" else BATCH, k * (d + 1) * samples
    count, width = max(1, batch // entries), math.ceil(samples / math.ceil(entries / batch))
    order = torch.tensor([len(p) for p in plans]).argsort(descending=True, stable=True)
    schedule = _Schedule(flow, [plans[i] for i in order.tolist()], cells)
    parts = [_Part(schedule, range(total)[i : i + count], width, batch) for i in range(0, total, count)]

    def columns(v: Tensor) -> Tensor:
        return torch.nn.functional.pad(v[order].reshape(total, samples, d).mT, (0, 0, 0, 1), value=1.0)

    def states(found: Iterable[Tensor]) -> Tensor:
        return torch.cat(list(found))[:, :d].mT.reshape(x.shape)[order.argsort()]

    def pullback(v: Tensor) -> Tensor:
        return states(map(operator.methodcaller("backward", columns(v)), parts))

    return states(map(operator.methodcaller("forward", columns(x)), parts)), pullback
