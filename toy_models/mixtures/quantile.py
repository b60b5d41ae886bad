r"""Maps between one-dimensional distributions that preserve mass: :math:`y = F_1^{-1}(F_0(x))`.

A distribution function is flat between separated modes, and close to 0 or 1 in the tails, so matching its values loses
digits that the map still has. Each component k therefore enters with the tail on its own side of x,

.. math:: \sum_k s_k w_k T_k(y; s_k), \qquad T(y; +) = F(y), \quad T(y; -) = 1 - F(y),

with the same signs at both ends: this differs from F by a constant, and all its terms are small and accurate. Terms are
scaled in logs. SciPy's vectorised bracketing solver computes the roots.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import special
from scipy.optimize import elementwise

Array = np.ndarray
Parts = tuple[Array, ...]  # log-weights first, then a component's parameters, each (N, K)
Mixture1D = tuple[Array, Array, Array]  # log-weights, means, standard deviations, each (..., K)
LogTail = Callable[[Array, Array, Parts], Array]
LARGEST_EXPONENT = 700.0


def _match(log_tail: LogTail, x: Array, sides: tuple[Parts, Parts], ends: tuple[Array, Array]) -> Array:
    """Solve for y (N,) whose mass under ``sides[1]`` equals that of x (N,) under ``sides[0]``, between ``ends``.

    Returns
    -------
    Array
        y (N,).

    Raises
    ------
    ValueError
        If x is too far in a tail for float64.
    """
    start, finish = sides
    lower, upper = (log_tail(np.full_like(start[0], s), x, start) for s in (1.0, -1.0))
    signs = np.where(lower <= upper, 1.0, -1.0)
    levels = np.minimum(lower, upper)
    scale = levels.max(-1)

    def mass(y: Array, i: Array) -> Array:
        rows = i.astype(np.intp)
        logs = log_tail(signs[rows], y, tuple(p[rows] for p in finish))
        terms = signs[rows] * np.exp(np.minimum(logs - scale[rows, None], LARGEST_EXPONENT))
        return terms.sum(-1) - (signs[rows] * np.exp(levels[rows] - scale[rows, None])).sum(-1)

    low, high = ends
    slack = 1e-8 * (1 + np.abs(low) + np.abs(high))
    every = np.arange(len(x), dtype=float)
    solution = elementwise.find_root(mass, (low - slack, high + slack), args=(every,))
    if not np.all(solution.success):
        raise ValueError("x lies too far in a tail: its probability cannot be matched in float64")
    return solution.x


def _log_normal_tail(sign: Array, y: Array, parts: Parts) -> Array:
    w, m, s = parts
    return w + special.log_ndtr(sign * (y[:, None] - m) / s)


def _log_normal_pdf(y: Array, parts: Parts) -> Array:
    w, m, s = parts
    return special.logsumexp(w - ((y[:, None] - m) / s) ** 2 / 2 - np.log(np.sqrt(2 * np.pi) * s), axis=-1)


def match_mixtures(x: Array, start: Mixture1D, end: Mixture1D) -> tuple[Array, Array]:
    """Match the distribution functions of two mixtures: y = F_end^{-1}(F_start(x)).

    ``start`` and ``end`` hold log-weights, means and standard deviations of shape (*x.shape, K).

    Returns
    -------
    tuple
        y and log dy/dx, both of the shape of x.
    """
    z, k = x.reshape(-1), start[0].shape[-1]
    begin, finish = (tuple(p.reshape(-1, k) for p in side) for side in (start, end))
    lower, upper = (special.logsumexp(_log_normal_tail(np.array(s), z, begin), axis=-1) for s in (1, -1))
    normal = np.where(lower <= upper, special.ndtri_exp(lower), -special.ndtri_exp(upper))
    # The quantile of a mixture lies between those of its components; those of weight zero do not count.
    quantiles = np.where(np.isfinite(finish[0]), finish[1] + finish[2] * normal[:, None], np.nan)
    ends = np.nanmin(quantiles, -1), np.nanmax(quantiles, -1)
    y = _match(_log_normal_tail, z, (begin, finish), ends)
    return y.reshape(x.shape), (_log_normal_pdf(z, begin) - _log_normal_pdf(y, finish)).reshape(x.shape)


def log_gamma_lower(a: float, x: Array) -> Array:
    """Return log P(a, x), the regularised lower incomplete gamma function, without underflow (DLMF 8.5.1)."""
    small = np.minimum(x, a)
    series = a * np.log(small) - small - special.gammaln(a + 1) + np.log(special.hyp1f1(1, a + 1, small))
    return np.where(x < a, series, np.log(special.gammainc(a, np.maximum(x, a))))


def log_gamma_upper(a: float, x: Array) -> Array:
    """Return log Q(a, x), the regularised upper incomplete gamma function, without underflow (DLMF 8.5.3)."""
    large = np.maximum(x, 300 + a)
    tail = a * np.log(large) - large - special.gammaln(a) + np.log(special.hyperu(1, a + 1, large))
    return np.where(x > 300 + a, tail, np.log(special.gammaincc(a, np.minimum(x, 300 + a))))


def match_radii(r: Array, start: tuple[Array, Array], end: tuple[Array, Array], dim: int) -> tuple[Array, Array]:
    """Match the distribution functions of the radii r > 0 (N,) of isotropic scale mixtures in ``dim`` dimensions.

    ``start`` and ``end`` hold log-weights and standard deviations, (N, K); |x|^2/s^2 is chi-squared.

    Returns
    -------
    tuple
        Log(R/r) and log(dR/dr), (N,).
    """

    def log_tail(sign: Array, u: Array, parts: Parts) -> Array:
        x = np.exp(2 * u)[:, None] / parts[1] ** 2 / 2
        return parts[0] + np.where(sign > 0, log_gamma_lower(dim / 2, x), log_gamma_upper(dim / 2, x))

    constant = (1 - dim / 2) * np.log(2) - special.gammaln(dim / 2)

    def log_pdf(u: Array, parts: Parts) -> Array:  # of u = log r
        v = u[:, None] - np.log(parts[1])
        return special.logsumexp(parts[0] + dim * v - np.exp(2 * v) / 2, axis=-1) + constant

    u = np.log(r)
    # Dilating by the smallest and the largest ratio of scales brackets the matching radius.
    ratio = np.log(end[1][:, :, None] / start[1][:, None, :])
    solution = _match(log_tail, u, (start, end), (u + ratio.min((1, 2)), u + ratio.max((1, 2))))
    return solution - u, solution - u + log_pdf(u, start) - log_pdf(solution, end)
