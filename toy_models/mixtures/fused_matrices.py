"""The state-independent part of a mixture's solves: coefficients, diagonal factors, and the matrices made of them.

``toy_models.mixtures.fused_solve`` defines the matrices.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from analysis.paths import AffinePath, Readout
from analysis.plan import StepPlan
from toy_models.mixtures.eigenbasis import Eigenbasis

Row = list[tuple[int, Tensor | None]]  # a linear combination: which term, and its coefficient, or None for one
MOST_CACHED = 2**22  # entries of all matrices of a solve up to which they are cached for the backward pass


def fold(x: Tensor, t: Tensor, readout: Readout) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Fold states (B, d) into blocks of equal time, so that terms of time alone are computed once per block.

    Returns
    -------
    tuple
        x (blocks, n, d), and t, a, c (blocks, 1); unchanged where the times do not come in equal blocks.
    """
    parts = (t, readout.target, readout.minus_score)
    if t.ndim != 1 or x.ndim != 2 or t.shape[0] != x.shape[0]:
        return x, *parts
    key = torch.stack([c.expand(t.shape) for c in parts])
    blocks = 1 + int((key[:, 1:] != key[:, :-1]).any(0).sum())
    if len(x) % blocks or not bool(((cut := key.unflatten(1, (blocks, -1))) == cut[..., :1]).all()):
        return x, *parts
    return x.unflatten(0, (blocks, -1)), *cut[..., :1].unbind()


@dataclass(frozen=True)
class Step:
    """One step of some cells: W and V of every stage, and the rows that combine the state and evaluations."""

    whiten: Sequence[Tensor]
    read: Sequence[Tensor]
    rows: Sequence[Row]


def _coefficient(stages: StepPlan, row: int, term: int) -> Tensor:
    c = stages.rows[row][term]
    return torch.zeros_like(stages.times[0]) if c is None else c


class SolveMatrices:
    """State-independent coefficients and factors of a fused solve, (steps, stages, cells, ...), longest cells first."""

    def __init__(self, mixture: Eigenbasis, path: AffinePath, plans: Sequence[StepPlan], cells: int) -> None:
        def merged(coefficients: Iterable[Tensor]) -> Tensor:
            """Return (steps, all cells, 1, 1), with zeros beyond a cell's last step."""
            padded = pad_sequence([c.reshape(len(c), -1).expand(-1, cells) for c in coefficients])
            return padded.flatten(1)[..., None, None]

        def staged(coefficients: Iterable[Iterable[Tensor]]) -> Tensor:
            """Return (steps, stages, all cells, 1, 1)."""
            return torch.stack([merged(stage) for stage in zip(*coefficients, strict=True)], 1)

        self.mixture, self.path, self.lengths = mixture, path, [len(p) for p in plans for _ in range(cells)]
        rows = [
            [(j, [_coefficient(p, i, j) for p in plans]) for j, c in enumerate(row) if not j or c is not None]
            for i, row in enumerate(plans[0].rows)
        ]
        # The last evaluation enters the end of the step and nothing else: its weight there goes into its matrix.
        last = merged(rows[-1].pop()[1]).to(mixture.means)
        self.rows: list[Row] = [
            [(j, None if all(bool((c == 1).all()) for c in cs) else merged(cs).to(mixture.means)) for j, cs in row]
            for row in rows
        ]
        a, c = (staged([r[k] for r in p.readouts] for p in plans).to(mixture.means) for k in (0, 2))
        self._make_factors(staged(p.times for p in plans), a, c)
        for factor in (self.gain, self.centre_weights):
            factor[:, -1] *= last
        k, d = mixture.means.shape
        self.basis = mixture.into.T.reshape(k, d, d)
        entries = sum(self.lengths) * len(plans[0].times) * k * (d + 1) ** 2
        self.cache: dict[tuple[int, int, int, int], list[Step]] | None = {} if entries <= MOST_CACHED else None
        self.scratch: tuple[Tensor, ...] = ()

    def _make_factors(self, time: Tensor, a: Tensor, c: Tensor) -> None:
        mixture = self.mixture
        alpha, sigma = self.path.alpha(time).to(mixture.means), self.path.sigma(time).to(mixture.means)
        variance = alpha**2 * mixture.variances + sigma**2
        weight = mixture.log_weights - variance.log().sum(-1) / 2
        self.root = variance.rsqrt()
        self.shift = -alpha * self.root * mixture.means
        self.level = (1 + 2 * (weight.amax(-1, keepdim=True) - weight)).sqrt()
        self.gain = (a * alpha * mixture.variances + c) * self.root
        self.centre_weights = a * mixture.centres / self.level[..., None]

    def segments(self, cells: range, batch: int) -> list[tuple[int, int, slice]]:
        """Return runs of steps of the same cells whose matrices fit into the cache, as (first, last, cells)."""
        k, d = self.mixture.means.shape
        lengths, runs, first = self.lengths[cells.start : cells.stop], [], 0
        while first < lengths[0]:
            live = sum(n > first for n in lengths)
            fits = max(1, batch // (self.root.shape[1] * live * k * (d + 1) ** 2))
            last = min(lengths[live - 1], first + fits)
            runs.append((first, last, slice(cells.start, cells.start + live)))
            first = last
        return runs

    def steps(self, first: int, last: int, cells: slice) -> list[Step]:
        """Return the matrices and rows of steps first to last of some cells; the next call may overwrite them."""
        key = (first, last, cells.start, cells.stop)
        if self.cache is None or key not in self.cache:
            steps = self._steps(first, last, cells)
            if self.cache is None:
                return steps
            self.cache[key] = steps
        return self.cache[key]

    def _steps(self, first: int, last: int, cells: slice) -> list[Step]:
        whiten, read = self._matrices((slice(first, last), slice(None), cells))
        products = ([step.unbind() for step in matrices.flatten(3, 4).unbind()] for matrices in (whiten, read))
        rows = [[(j, c if c is None else c[first:last, cells].unbind()) for j, c in row] for row in self.rows]
        return [
            Step(w, v, [[(j, c if c is None else c[i]) for j, c in row] for row in rows])
            for i, (w, v) in enumerate(zip(*products, strict=True))
        ]

    def _matrices(self, cut: tuple[slice, ...]) -> tuple[Tensor, ...]:
        """Return W and V (steps, stages, cells, K, d + 1, d + 1); those of the last call are reused unless cached."""
        root, d = self.root[cut], self.basis.shape[-1]
        shape = (*root.shape[:-1], d + 1, d + 1)
        if self.cache is not None or not self.scratch or self.scratch[0].shape != shape:
            self.scratch = (root.new_zeros(shape), root.new_zeros(shape))
        whiten, read = self.scratch
        torch.mul(self.basis, root[..., None], out=whiten[..., :d, :d])
        torch.mul(self.basis, self.gain[cut][..., None], out=read[..., :d, :d])
        whiten[..., :d, d], whiten[..., d, d] = self.shift[cut], self.level[cut]
        read[..., d, :d] = self.centre_weights[cut]
        return whiten, read
