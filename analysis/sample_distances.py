r"""Distances of a set of samples from an exact posterior: one number per measurement.

Sets are (n, d) or, a batch of Y measurements at once, (Y, n, d); metrics then return () or (Y,). Two sets are compared
by

- ``sliced_wasserstein``: :math:`(\mathrm{mean}_\theta W_2^2(\theta^T x, \theta^T y))^{1/2}` over fixed directions
  (Bonneel et al. 2015, *J. Math. Imaging Vis.* 51), with the exact W_2 of two empirical laws on a line;
- ``energy_distance``: :math:`2 E|X - Y| - E|X - X'| - E|Y - Y'|` (Székely & Rizzo 2013, *J. Stat. Plan. Inference*
  143), as a U-statistic: zero in expectation for equal laws, so that it may be negative;
- ``mean_error`` and ``coverage``, the latter by ranks, which are uniform for equal laws and every n.

The first is biased: two sets of one law have a positive distance that shrinks with n. Its floor is the distance of two
independent exact sets, and should be reported beside it. A measurement with a sample that is not finite has the value
NaN, which ``intervals.interval`` counts as failed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from analysis import checks
from analysis.norms import norms

PROJECTIONS = 128


def pair(x: Tensor, y: Tensor, names: tuple[str, str] = ("x", "y")) -> tuple[Tensor, Tensor]:
    """Check two sets of samples, which error messages call by ``names``.

    Returns
    -------
    tuple
        (Y, n, d) and (Y, m, d), float64.

    Raises
    ------
    TypeError
        For arguments that are not tensors or arrays of real numbers.
    ValueError
        For other shapes, and for two sets that differ in more than the number of samples.
    """
    x, y = (checks.floats(value, name) for value, name in zip((x, y), names, strict=True))
    for name, value in zip(names, (x, y), strict=True):
        if value.ndim not in (2, 3) or 0 in value.shape:
            raise ValueError(f"{name} must have shape (n, d) or (Y, n, d), none of them 0; got {tuple(value.shape)}")
    if x.ndim != y.ndim or x.shape[-1] != y.shape[-1] or x.shape[:-2] != y.shape[:-2]:
        shapes = f"{tuple(x.shape)}, {tuple(y.shape)}"
        raise ValueError(f"{names[0]} and {names[1]} must agree but for their numbers of samples, got {shapes}")
    return x.reshape(-1, *x.shape[-2:]), y.reshape(-1, *y.shape[-2:])


def finite_sets(*sets: Tensor) -> Tensor:
    """Return a mask (Y,): true where all samples of all sets (Y, n, d) are finite."""
    return torch.stack([torch.isfinite(s).flatten(1).all(1) for s in sets]).all(0)


def _shaped(values: Tensor, usable: Tensor, like: Tensor) -> Tensor:
    """Return values with NaN where a set is not finite (``usable`` (Y,) false), as () if ``like`` is a single set."""
    values = torch.where(usable.reshape(-1, *[1] * (values.ndim - 1)), values, torch.nan)
    return values[0] if np.ndim(like) == 2 else values


def directions(dim: int, count: int, seed: int) -> Tensor:
    """Return unit vectors (dim, count), uniform on the sphere; equal seeds give equal vectors."""
    shape = checks.count("dim", dim), checks.count("projections", count)
    return torch.nn.functional.normalize(
        torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(checks.seed("seed", seed))),
        dim=0,
    )


def wasserstein_on_lines(x: Tensor, y: Tensor) -> Tensor:
    """Compute the squared W_2 of the empirical laws along the last axis but one of (..., n, P) and (..., m, P).

    The quantile functions are steps of width 1/n and 1/m; their product is summed over the common refinement.

    Returns
    -------
    Tensor
        (..., P).
    """
    n, m = x.shape[-2], y.shape[-2]
    levels = torch.cat([torch.arange(n + 1) * m, torch.arange(m + 1) * n]).unique()  # in units of 1/(n m): exact
    widths = levels.diff().double() / (n * m)
    starts = levels[:-1]
    x, y = x.sort(-2).values[..., starts // m, :], y.sort(-2).values[..., starts // n, :]
    return ((x - y).square() * widths[:, None].to(x)).sum(-2)


def sliced_wasserstein(x: Tensor, y: Tensor, *, projections: int = PROJECTIONS, seed: int = 0) -> Tensor:
    """Return the sliced Wasserstein-2 distance (Y,) of sets (Y, n, d), (Y, m, d), over fixed random directions."""
    a, b = pair(x, y)
    theta = directions(a.shape[-1], projections, seed).to(a.device)
    usable = finite_sets(a, b)
    return _shaped(wasserstein_on_lines((a @ theta).nan_to_num(), (b @ theta).nan_to_num()).mean(-1).sqrt(), usable, x)


def _within(x: Tensor) -> Tensor:
    """Return the mean distance (Y,) of two different members of each set."""
    n = x.shape[1]
    return _distances(x, x).sum((1, 2)) / (n * (n - 1))


def _distances(x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")  # products would lose near neighbours


def energy_distance(x: Tensor, y: Tensor) -> Tensor:
    """Compute the unbiased energy distance of sets (Y, n, d) and (Y, m, d), n and m above 1.

    Returns
    -------
    Tensor
        (Y,).

    Raises
    ------
    TypeError
        As ``pair`` does.
    ValueError
        For a set of one sample, and as ``pair`` does.
    """
    a, b = pair(x, y)
    if min(a.shape[1], b.shape[1]) < 2:
        raise ValueError(f"x and y must hold two samples or more, got {a.shape[1]} and {b.shape[1]}")
    usable = finite_sets(a, b)
    a, b = a.nan_to_num(0, 0, 0), b.nan_to_num(0, 0, 0)
    return _shaped(2 * _distances(a, b).mean((1, 2)) - _within(a) - _within(b), usable, x)


def mean_error(x: Tensor, mean: Tensor) -> Tensor:
    """Return |mean of x - mean| / |mean| (Y,), for x (Y, n, d), mean (Y, d); ``ValueError`` for other shapes."""
    centre = checks.floats(mean, "mean")
    if not centre.ndim:
        raise ValueError("mean must have shape (d,) or (Y, d), got a number")
    a, b = pair(x, centre.unsqueeze(-2), ("x", "mean"))
    difference = a.mean(1) - b[:, 0]
    return _shaped(norms(difference) / norms(b[:, 0]), finite_sets(a, b), x)


def coverage(x: Tensor, truths: Tensor, levels: Sequence[float]) -> Tensor:
    r"""Compute how often central credible intervals of x (Y, n, d) hold the truths (Y, m, d).

    A truth of rank r among n samples, in one coordinate, occupies the levels :math:`[r, r + 1]/(n + 1)`. The share of
    these levels inside the central interval is counted, so that for truths of the law of x the expectation is the
    nominal level for every n. Truths that tie with samples occupy the levels of all of these. The mean is over
    coordinates and m.

    Returns
    -------
    Tensor
        (Y, levels).

    Raises
    ------
    TypeError
        As ``pair`` does.
    ValueError
        For no levels, for one outside (0, 1), and as ``pair`` does.
    """
    a, b = pair(x, truths, ("x", "truths"))
    levels = [checks.inside("levels", level) for level in checks.sequence("levels", levels)]
    ordered = a.nan_to_num().mT.contiguous()  # (Y, d, n)
    sought = b.nan_to_num().mT.contiguous()
    sides = [torch.searchsorted(ordered.sort(-1).values, sought, right=right) for right in (False, True)]
    low, high = sides[0].double() / (a.shape[1] + 1), (sides[1] + 1).double() / (a.shape[1] + 1)
    shares = []
    for level in levels:
        inside = torch.minimum(high, high.new_tensor((1 + level) / 2)) - low.clamp_min((1 - level) / 2)
        shares.append((inside.clamp_min(0) / (high - low)).mean((1, 2)))
    return _shaped(torch.stack(shares, -1), finite_sets(a, b), x)


def misfit(residuals: Tensor, noise: float) -> Tensor:
    r"""Compute :math:`\chi^2/m`, the mean of :math:`|A x - y|^2 / (m\,\mathrm{noise}^2)`, of residuals (Y, n, m).

    Returns
    -------
    Tensor
        (Y,).

    Raises
    ------
    ValueError
        For noise that is not positive and finite.
    """
    noise = checks.positive("noise", noise)
    a, _ = pair(residuals, residuals, ("residuals", "residuals"))
    return _shaped((a / noise).square().mean((1, 2)), finite_sets(a), residuals)
