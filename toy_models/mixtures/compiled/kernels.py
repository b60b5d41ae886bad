r"""A mixture's readout and its product with cotangents, at one block of samples: the compiled part of an evaluation.

A block has as many samples as two vector registers have lanes; arrays of it are rows (..., block), and ``product``
keeps four rows of its result in registers. With U_k the eigenbasis of component k, S_k its variances at a time, and a
and c the readout's coefficients, an evaluation writes :math:`y_k = S_k^{-1/2} U_k^T (x - \alpha\mu_k)`, the
responsibilities r_k, and :math:`u = \sum_k r_k (a \mu_k + U_k g_k y_k)` with the gain
:math:`g_k = (a \alpha C_k + c) S_k^{-1/2}`; ``toy_models.mixtures.gaussian`` has the formulas. y is computed again when
a cotangent is pulled back, since writing and reading it takes longer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from toy_models.mixtures.compiled.vectors import (
    add,
    block,
    each,
    exponent,
    exponential,
    fma,
    greater,
    load,
    log,
    mantissa,
    minus,
    over,
    root,
    store,
    times,
    without_small,
    zeros,
)

inline = njit(error_model="numpy", forceinline=True)
called = njit(error_model="numpy")
START, FORTH, BACK = np.int64(0), np.int64(0), np.int64(1)  # literals would be types of their own


class Job(NamedTuple):
    """The solves of all plans, in flat arrays, since every array and field of its own takes time to compile.

    A cell's samples share their times; where every sample has ``own`` times there is one cell.

    Attributes
    ----------
    components, dim, stages, history, cells, samples : sizes; of samples, those of one cell
    own : whether every sample has its own times
    columns : how many coefficients of a kind there are: cells, or samples up to whole blocks
    counts : which terms the rows combine, of x, the history and the stages (stages + 1, terms); steps (plans,)
    given : all numbers that are given: the eigenbases, one row per component and eigenvector, then the means
        (K d + K, d); from ``basis`` on, variances (K d), means in the eigenbases (K d), log-weights (K); 1,
        log 2, -1/2, and the largest responsibility that counts as zero; from ``moments`` on (groups, 4, lanes), alpha,
        sigma, and the readout's coefficients of target and minus score, of as many evaluations of a cell as a register
        has lanes, or of as many samples with their own times; from ``rows`` on (steps of all plans, stages + 1, terms,
        columns)
    states, ends : (plans, cells, samples, d)
    tape : of each block and evaluation, the state and the responsibilities
    scratch : two arrays (K d + K, block), the terms, and room for as many; from ``tables`` on, what ``tabulate``
        makes of the moments of one cell, or of one block and evaluation
    """

    components: int
    dim: int
    stages: int
    history: int
    cells: int
    samples: int
    own: bool
    columns: int
    basis: int
    moments: int
    rows: int
    tables: int
    counts: Any
    given: Any
    states: Any
    ends: Any
    tape: Any
    scratch: Any


@inline
def entry(values: Any, at: Any, own: Any) -> Any:
    """Return numbers for each lane where every sample has its own times, else one number for all."""
    return load(values, at) if own else each(values, at)


@called
def product(job: Any, adjoint: Any, rows: Any, inner: Any, x: Any, x_at: Any, out_at: Any) -> None:
    """Write the first rows of ``into`` x, or of its transpose, to ``scratch``, four at a time."""
    c, out, w = job.given, job.scratch, block(x)
    across, along = (1, job.dim) if adjoint else (job.dim, 1)
    n, r = w // 2, 0
    while r + 4 <= rows:
        a = b = e = f = a2 = b2 = e2 = f2 = zeros(x)
        for j in range(inner):
            left, right, at = load(x, x_at + j * w), load(x, x_at + j * w + n), r * across + j * along
            m = each(c, at)
            a, a2 = fma(m, left, a), fma(m, right, a2)
            m = each(c, at + across)
            b, b2 = fma(m, left, b), fma(m, right, b2)
            m = each(c, at + 2 * across)
            e, e2 = fma(m, left, e), fma(m, right, e2)
            m = each(c, at + 3 * across)
            f, f2 = fma(m, left, f), fma(m, right, f2)
        at = out_at + r * w
        store(out, at, a)
        store(out, at + n, a2)
        store(out, at + w, b)
        store(out, at + w + n, b2)
        store(out, at + 2 * w, e)
        store(out, at + 2 * w + n, e2)
        store(out, at + 3 * w, f)
        store(out, at + 3 * w + n, f2)
        r += 4
    while r < rows:
        a = a2 = zeros(x)
        for j in range(inner):
            m = each(c, r * across + j * along)
            a, a2 = fma(m, load(x, x_at + j * w), a), fma(m, load(x, x_at + j * w + n), a2)
        store(out, out_at + r * w, a)
        store(out, out_at + r * w + n, a2)
        r += 1


@inline
def height(job: Any) -> Any:
    """Return the number of rows that ``tabulate`` writes."""
    return job.components * (3 * job.dim + 1) + 1


@called
def tabulate(job: Any, group: Any, at: Any) -> None:
    """Write, for a group of moments, S^{-1/2}, its product with the means, the gain; log-weights; and a."""
    given, out, basis, at = job.given, job.scratch, job.basis, at + job.tables
    n, size = block(out) // 2, job.components * job.dim
    numbers, place = basis + 2 * size + job.components, job.moments + 4 * group * n
    alpha, sigma = load(given, place), load(given, place + n)
    a, c = load(given, place + 2 * n), load(given, place + 3 * n)
    square, noise, slope = times(alpha, alpha), times(sigma, sigma), times(a, alpha)
    for k in range(job.components):
        digits, power = each(given, numbers), zeros(out)
        for i in range(k * job.dim, (k + 1) * job.dim):
            variance = fma(square, each(given, basis + i), noise)
            digits = times(digits, variance)
            power, digits = add(power, exponent(digits)), mantissa(digits)
            inverse = over(each(given, numbers), root(variance))
            store(out, at + i * n, inverse)
            store(out, at + (size + i) * n, times(times(alpha, each(given, basis + size + i)), inverse))
            store(out, at + (2 * size + i) * n, times(fma(slope, each(given, basis + i), c), inverse))
        logarithm = fma(power, each(given, numbers + 1), log(digits))
        store(out, at + (3 * size + k) * n, fma(each(given, numbers + 2), logarithm, each(given, basis + 2 * size + k)))
    store(out, at + (3 * size + job.components) * n, a)


@inline
def evaluate(job: Any, x: Any, table: Any, out: Any) -> None:
    """Write the readout at the state on the tape at ``x`` to ``scratch`` at ``out``, and r to the tape."""
    y, tape, own, d = job.scratch, job.tape, job.own, job.dim
    w, size, count = block(y), job.components * d, job.components
    n, numbers = w // 2, job.basis + 2 * size + count
    half, tiny = each(job.given, numbers + 2), each(job.given, numbers + 3)
    product(job, FORTH, size, d, tape, x, START)
    for h in range(0, w, n):
        t, r = job.tables + table + h * height(job) * own, x + d * w + h
        top = zeros(y)
        for k in range(count):
            total = zeros(y)
            for i in range(k * d, (k + 1) * d):
                white = minus(times(load(y, i * w + h), entry(y, t + i * n, own)), entry(y, t + (size + i) * n, own))
                store(y, i * w + h, white)
                total = fma(white, white, total)
            level = fma(half, total, entry(y, t + (3 * size + k) * n, own))
            store(tape, r + k * w, level)
            top = greater(level, top) if k else level
        total = zeros(y)
        for k in range(count):
            likelihood = exponential(minus(load(tape, r + k * w), top))
            store(tape, r + k * w, likelihood)
            total = add(total, likelihood)
        scale, a = over(each(job.given, numbers), total), entry(y, t + (3 * size + count) * n, own)
        for k in range(count):
            weight = without_small(times(load(tape, r + k * w), scale), tiny)
            store(tape, r + k * w, weight)
            store(y, (size + k) * w + h, times(a, weight))
            for i in range(k * d, (k + 1) * d):
                gain = times(weight, entry(y, t + (2 * size + i) * n, own))
                store(y, i * w + h, times(load(y, i * w + h), gain))
    product(job, BACK, d, size + count, y, START, out)


@inline
def pull(job: Any, x: Any, table: Any, v: Any, out: Any) -> None:
    """Write the product of the cotangent at ``v`` with the Jacobian at the state on the tape at ``x`` to ``out``."""
    y, tape, own, d = job.scratch, job.tape, job.own, job.dim
    w, size, count = block(y), job.components * d, job.components
    n, q = w // 2, (size + count) * w
    product(job, FORTH, size, d, tape, x, START)
    product(job, FORTH, size + count, d, y, v, q)
    for h in range(0, w, n):
        t, r = job.tables + table + h * height(job) * own, x + d * w + h
        mean, a = zeros(y), entry(y, t + (3 * size + count) * n, own)
        for k in range(count):
            along = times(a, load(y, q + (size + k) * w + h))
            for i in range(k * d, (k + 1) * d):
                at = i * w + h
                white = minus(times(load(y, at), entry(y, t + i * n, own)), entry(y, t + (size + i) * n, own))
                turned = times(load(y, q + at), entry(y, t + (2 * size + i) * n, own))
                store(y, at, white)
                store(y, q + at, turned)
                along = fma(turned, white, along)
            store(y, q + (size + k) * w + h, along)
            mean = fma(load(tape, r + k * w), along, mean)
        for k in range(count):
            weight, spread = load(tape, r + k * w), minus(mean, load(y, q + (size + k) * w + h))
            for i in range(k * d, (k + 1) * d):
                at = i * w + h
                scale = times(weight, entry(y, t + i * n, own))
                store(y, at, times(scale, fma(spread, load(y, at), load(y, q + at))))
    product(job, BACK, d, size, y, START, out)
