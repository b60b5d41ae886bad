"""The loops over plans, cells, blocks of samples, steps and stages; the compiled functions, and their place on disk.

``advance`` and ``reverse`` are the forward and backward pass of a block. Of a step, the terms are the state, the
evaluations that a multistep method remembers, and those of its stages; rows combine them.
"""

from __future__ import annotations

import functools
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

from toy_models.mixtures.compiled.kernels import (
    START,
    Job,
    entry,
    evaluate,
    height,
    inline,
    pull,
    tabulate,
)
from toy_models.mixtures.compiled.vectors import block, fma, load, store, zeros

DIGEST = zlib.crc32(b"".join(Path(__file__).with_name(f"{n}.py").read_bytes() for n in ("vectors", "kernels", "loops")))


@inline
def terms(job: Any) -> Any:
    """Return where the terms begin in ``scratch``."""
    return 2 * job.components * (job.dim + 1) * block(job.scratch)


@inline
def table_of(job: Any, group: Any, evaluation: Any, b: Any) -> Any:
    """Return where the tables of an evaluation of block b are; where samples have their own times, make them."""
    n = block(job.scratch) // 2
    if not job.own:
        return (evaluation // n) * height(job) * n + evaluation % n
    group += evaluation * (job.columns // n) + b // n
    for h in range(2):
        tabulate(job, group + h, h * height(job) * n)
    return START


@inline
def clear(y: Any, first: Any, last: Any) -> None:
    """Write zeros from ``first`` to ``last``."""
    for at in range(first, last, block(y) // 2):
        store(y, at, zeros(y))


@inline
def copy(y: Any, source: Any, count: Any, target: Any) -> None:
    """Copy ``count`` numbers."""
    for at in range(0, count, block(y) // 2):
        store(y, target + at, load(y, source + at))


@inline
def combine(job: Any, row: Any, at: Any, out: Any, out_at: Any) -> None:
    """Write the combination of terms for a stage, or for the end of the step; ``at`` is where the step's rows are."""
    y, w, d, count = job.scratch, block(job.scratch), job.dim, 1 + job.history + job.stages
    for h in range(0, w, w // 2):
        for j in range(d):
            total = zeros(y)
            for term in range(min(count, 1 + job.history + row)):
                if job.counts[row * count + term]:
                    c = entry(job.given, at + (row * count + term) * job.columns + h * job.own, job.own)
                    total = fma(c, load(y, terms(job) + (term * d + j) * w + h), total)
            store(out, out_at + j * w + h, total)


@inline
def spread(job: Any, row: Any, at: Any, v: Any) -> None:
    """Add the cotangent of a combination to those of its terms."""
    y, w, d, count = job.scratch, block(job.scratch), job.dim, 1 + job.history + job.stages
    for h in range(0, w, w // 2):
        for term in range(min(count, 1 + job.history + row)):
            if job.counts[row * count + term]:
                c = entry(job.given, at + (row * count + term) * job.columns + h * job.own, job.own)
                for j in range(d):
                    place = terms(job) + (term * d + j) * w + h
                    store(y, place, fma(c, load(y, v + j * w + h), load(y, place)))


@inline
def advance(job: Any, steps: Any, group: Any, at: Any, tape: Any, b: Any) -> None:
    """Take all steps of a block, whose states are the first term."""
    y, state = job.scratch, job.dim * block(job.scratch)
    first, count = terms(job), 1 + job.history + job.stages
    clear(y, first + state, first + (1 + job.history) * state)
    for i in range(steps):
        for s in range(job.stages):
            combine(job, s, at, job.tape, tape)
            table = table_of(job, group, i * job.stages + s, b)
            evaluate(job, tape, table, first + (1 + job.history + s) * state)
            tape += state + job.components * block(y)
        combine(job, job.stages, at, y, START)
        copy(y, START, state, first)
        copy(y, first + (count - job.history) * state, job.history * state, first + state)
        at += (job.stages + 1) * count * job.columns


@inline
def reverse(job: Any, steps: Any, group: Any, at: Any, tape: Any, b: Any) -> None:
    """Reverse all steps of a block, with the cotangents of the ends as the first term; they end where tape begins."""
    y, state = job.scratch, job.dim * block(job.scratch)
    first, count = terms(job), 1 + job.history + job.stages
    carry, size = first + count * state, (1 + job.history) * state
    clear(y, first + state, first + size)
    tape += steps * job.stages * (state + job.components * block(y))
    for i in range(steps - 1, -1, -1):
        rows = at + i * (job.stages + 1) * count * job.columns
        copy(y, first, size, carry)
        clear(y, first, carry)
        copy(y, carry + state, job.history * state, carry - job.history * state)
        spread(job, job.stages, rows, carry)
        for s in range(job.stages - 1, -1, -1):
            tape -= state + job.components * block(y)
            table = table_of(job, group, i * job.stages + s, b)
            pull(job, tape, table, first + (1 + job.history + s) * state, carry)
            spread(job, s, rows, carry)


@inline
def solve(job: Any, backward: Any) -> None:
    """Write the ends of all solves and the tape, or, backward, the cotangents of the starts, given the tape."""
    w, d, samples = block(job.scratch), job.dim, job.samples
    n, first = w // 2, terms(job)
    at, group, tape, cell, used = job.rows, START, START, START, (job.stages + 1) * (1 + job.history + job.stages)
    for p in range(used, len(job.counts)):
        steps = job.counts[p]
        evaluations = steps * job.stages
        for column in range(job.cells):
            if not job.own:
                for e in range(0, evaluations, n):
                    tabulate(job, group + e // n, e * height(job))
                group += -(-evaluations // n)
            for b in range(0, samples, w):
                for sample in range(w):
                    source = (cell * samples + min(b + sample, samples - 1)) * d
                    for j in range(d):
                        job.scratch[first + j * w + sample] = job.states[source + j]
                if backward:
                    reverse(job, steps, group, at + (b if job.own else column), tape, b)
                else:
                    advance(job, steps, group, at + (b if job.own else column), tape, b)
                for sample in range(min(w, samples - b)):
                    for j in range(d):
                        job.ends[(cell * samples + b + sample) * d + j] = job.scratch[first + j * w + sample]
                tape += evaluations * (d + job.components) * w
            cell += 1
        if job.own:
            group += evaluations * (job.columns // n)
        at += steps * used * job.columns


def _entry(size: int) -> Callable[[Job, bool], None]:
    """Make the function to compile for numbers of ``size`` bytes.

    Numba keeps the code of a function under its file's date and what its closure holds: so that holds the digest of all
    three files. Either size has files of its own there: of two processes that add to the same one at the same time,
    numba could take the code for the other's numbers.

    Returns
    -------
    callable
        Not compiled yet.
    """
    digest = DIGEST

    def double(job: Job, backward: bool) -> None:
        if digest >= 0:
            solve(job, backward)

    def single(job: Job, backward: bool) -> None:
        if digest >= 0:
            solve(job, backward)

    return double if size == 8 else single


def _cached(function: Callable[[Job, bool], None]) -> Any:
    """Compile on the first call, or load from disk; without any folder for that, compile in every process."""
    try:
        return njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:
        return _uncached(function)


@functools.cache
def _uncached(function: Callable[[Job, bool], None]) -> Any:
    return njit(nogil=True, error_model="numpy")(function)


_ENTRIES = {size: _entry(size) for size in (8, 4)}
_CACHED = {size: _cached(function) for size, function in _ENTRIES.items()}


def run(job: Job, backward: bool) -> None:
    """Call ``solve``; where the cache on disk is damaged or full, without it."""
    size = job.given.itemsize
    try:
        _CACHED[size](job, backward)
    except (OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, pickle.PickleError):
        _CACHED[size] = _uncached(_ENTRIES[size])
        _CACHED[size](job, backward)
