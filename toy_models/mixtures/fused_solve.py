r"""Whole solves of a mixture's flow, forward and backward, with everything that depends on time alone computed first.

States are columns with a 1 appended, (cells, d + 1, samples), where the samples of a cell share their times: vector
instructions then run along samples, and the shift by the means is part of the product. With U_k the eigenbasis of
component k, an evaluation takes two matrices:

- ``whiten``, W, maps x to :math:`y_k = S_k^{-1/2} U_k^T (x - \alpha\mu_k)` and one entry more, which does not depend
  on x and carries the component's weight: :math:`|y_k|^2 = -2 \log(w_k N_k) + const`;
- ``read``, V, is the transpose of the readout: :math:`u = \sum_k r_k V_k^T y_k`, where r = softmax(-|y|^2 / 2).

The product with the Jacobian is :math:`\sum_k W_k^T (r_k V_k v - g_k y_k)`, g being softmax's own pullback of
:math:`y_k \cdot V_k v`. States and responsibilities are stored for the backward pass; y is computed again, since
writing it to memory once and reading it once costs more than its product.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
from torch import Tensor

from analysis.flow import Pullback
from analysis.paths import AffinePath
from analysis.plan import StepPlan
from toy_models.mixtures.eigenbasis import Eigenbasis
from toy_models.mixtures.fused_matrices import Row, SolveMatrices, Step

CPU_BATCH = 5 * 2**14  # entries of y in one pass: three such arrays stay in a core's second-level cache
LEAST = 2**11  # such entries in all: with fewer, setting up takes longer than it saves
BATCH = 2**26  # elsewhere, where the number of calls is what counts
Tape = list[tuple[Tensor, Tensor]]  # state and responsibilities of each evaluation


def responsibilities(log_joint: Tensor, dim: int) -> Tensor:
    """Return the softmax, with zero where products would be denormal: these take a CPU a hundred times longer."""
    return torch.threshold(log_joint.softmax(dim), math.sqrt(torch.finfo(log_joint.dtype).tiny), 0.0)


class _Lane:
    """A cache-sized block of cells and samples: active states, finished states and the tape."""

    def __init__(self, x: Tensor, finished: Tensor, components: int, tape: Tape) -> None:
        self.x, self.finished, self.components, self.tape, self.at = x, finished, components, tape, len(tape)
        self._make_scratch()

    def resize(self, live: int) -> None:
        """Make the first ``live`` cells active."""
        if live != len(self.x):
            self.x, self.finished = torch.cat([self.x, self.finished]).tensor_split([live])
            self._make_scratch()

    def _make_scratch(self) -> None:
        live, rows, samples = self.x.shape
        self.y, self.v, self.product = (self.x.new_empty(live, self.components, rows, samples) for _ in range(3))
        self.flat_y, self.flat_v, self.flat_product = (s.flatten(1, 2) for s in (self.y, self.v, self.product))
        self.sums = self.x.new_empty(live, self.components, 1, samples)

    def advance(self, step: Step) -> None:
        """Take one step."""
        terms, last = [self.x], len(step.whiten) - 1
        for i, read in enumerate(step.read):
            self._evaluate(step.whiten[i], _combine(step.rows[i], terms))
            if i < last:
                terms.append(torch.bmm(read.mT, self.flat_product))
        self.x = torch.baddbmm(_combine(step.rows[-1], terms), read.mT, self.flat_product)

    def _evaluate(self, whiten: Tensor, state: Tensor) -> None:
        """Write r_k y_k into ``product``."""
        torch.bmm(whiten, state, out=self.flat_y)
        torch.sum(torch.square(self.y, out=self.product), 2, keepdim=True, out=self.sums)
        r = responsibilities(self.sums.mul_(-0.5), 1)
        torch.mul(self.y, r, out=self.product)
        self.tape.append((state, r))

    def reverse(self, step: Step) -> None:
        """Reverse the last step, with the cotangent in ``x``."""
        adjoints: list[Tensor | None] = [None] * len(step.whiten)
        _spread(step.rows[-1], self.x, adjoints)
        adjoints.append(self.x)
        for i in range(len(step.whiten) - 1, 0, -1):
            pulled = self._pull(step.whiten[i], step.read[i], adjoints.pop())
            _spread(step.rows[i], torch.bmm(step.whiten[i].mT, pulled), adjoints)
        pulled = self._pull(step.whiten[0], step.read[0], adjoints.pop())
        self.x = torch.baddbmm(cast(Tensor, adjoints[0]), step.whiten[0].mT, pulled)

    def _pull(self, whiten: Tensor, read: Tensor, v: Tensor | None) -> Tensor:
        """Return r_k V_k v - g_k y_k of the last evaluation that has not been pulled back."""
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


class _Part:
    """Cells that are solved together; where their samples exceed the cache, several lanes share the matrices."""

    def __init__(self, schedule: SolveMatrices, cells: range, width: int, batch: int) -> None:
        self.schedule, self.width, self.components = schedule, width, len(schedule.mixture.means)
        self.cells, self.segments = slice(cells.start, cells.stop), schedule.segments(cells, batch)
        self.tapes: list[Tape] = []

    def forward(self, x: Tensor) -> Tensor:
        """Return the ends of the part's cells, given the starts (all cells, d + 1, samples) of all."""
        parts = x[self.cells].split(self.width, 2)
        lanes = [_Lane(part.contiguous(), part[:0], self.components, []) for part in parts]
        self._run(lanes, _Lane.advance, 1)
        self.tapes = [lane.tape for lane in lanes]
        return torch.cat([torch.cat([lane.x, lane.finished]) for lane in lanes], 2)

    def backward(self, v: Tensor) -> Tensor:
        """Return the cotangents of the part's starts, given those of all ends."""
        parts = zip(v[self.cells].split(self.width, 2), self.tapes, strict=True)
        lanes = [_Lane(part[:0], part, self.components, tape) for part, tape in parts]
        self._run(lanes, _Lane.reverse, -1)
        return torch.cat([lane.x for lane in lanes], 2)

    def _run(self, lanes: Sequence[_Lane], move: Callable[[_Lane, Step], None], order: int) -> None:
        for first, last, cells in self.segments[::order]:
            for lane in lanes:
                lane.resize(cells.stop - cells.start)
            for step in self.schedule.steps(first, last, cells)[::order]:
                for lane in lanes:
                    move(lane, step)


def solve_vjp(
    mixture: Eigenbasis, path: AffinePath, x: Tensor, plans: Sequence[StepPlan]
) -> tuple[Tensor, Pullback] | None:
    """Solve all plans from x (plans, B, d), with the pullback from their ends to x.

    The generic loop is better for methods with a history of steps, for little work, and where fewer than d samples
    share their times.

    Returns
    -------
    tuple or None
        Ends (plans, B, d) and their pullback; ``None`` where the generic loop is better.
    """
    (k, d), stages = mixture.means.shape, plans[0]
    cells = stages.times[0].shape[1:].numel()
    samples, total = x.shape[1] // cells, cells * len(plans)
    work = sum(map(len, plans)) * len(stages.times) * x.shape[1] * k * d
    if stages.history or stages.rows[-1][-1] is None or samples < d or work < LEAST or x.requires_grad:
        return None
    batch, entries = CPU_BATCH if x.device.type == "cpu" else BATCH, k * (d + 1) * samples
    count = max(1, batch // entries)
    width = 64 * math.ceil(samples / math.ceil(entries / batch) / 64)
    order = torch.tensor([len(p) for p in plans]).argsort(descending=True, stable=True)
    schedule = SolveMatrices(mixture, path, [plans[i] for i in order.tolist()], cells)
    parts = [_Part(schedule, range(total)[i : i + count], width, batch) for i in range(0, total, count)]

    def columns(v: Tensor) -> Tensor:
        return torch.nn.functional.pad(v[order].reshape(total, samples, d).mT, (0, 0, 0, 1), value=1.0)

    def states(parts_of_states: Iterable[Tensor]) -> Tensor:
        return torch.cat(list(parts_of_states))[:, :d].mT.reshape(x.shape)[order.argsort()]

    def pullback(v: Tensor) -> Tensor:
        return states(map(operator.methodcaller("backward", columns(v)), parts))

    return states(map(operator.methodcaller("forward", columns(x)), parts)), pullback
