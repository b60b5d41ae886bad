"""Kinds of case: a number by itself, an equality within round-off, and an order fitted to errors.

No limit is a matter of taste: equalities allow round-off times the condition number of the problem, integrals the
difference between two resolutions, and fitted slopes are compared with the order that the theory or a solver states.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from analysis.claims.ledger import LINE_FIT, Case
from analysis.errors import relative_error
from analysis.orders import fit_order
from analysis.reference import EPS, SAFETY

# How far a fitted slope may be from the order it stands for: the window is finite, so the next order contributes.
SLOPE_TOLERANCE = 0.15


def deterministic_case(
    kind: str, reading: str, case: str, value: float, limit: float, rule: str = "at most", tolerance: float = 0.0
) -> Case:
    """Return a case without randomness, whose interval is its value."""
    return Case(kind, reading, case, value, value, value, limit, rule, tolerance)


def equality_case(
    kind: str, reading: str, case: str, measured: Tensor, expected: Tensor, limit: Tensor | float
) -> Case:
    """Make the case that two batches (B, d) agree, by the relative error of the sample worst for its limit.

    ``limit`` is the largest relative error that counts as agreement, one number or (B,).

    Returns
    -------
    Case
        With the worst sample's error.
    """
    error = relative_error(measured, expected)
    limit = torch.as_tensor(limit, dtype=torch.float64).expand(len(measured))
    worst = int((error / limit).nan_to_num(math.inf).argmax())
    return deterministic_case(kind, reading, case, float(error[worst]), float(limit[worst]))


def order_case(
    kind: str, reading: str, case: str, h: Tensor, error: Tensor, limit: float, *, floor: float, rule: str = "at least"
) -> Case:
    """Make the case that errors (H, B) fall with h (H,) at an order: the slope of their medians over samples.

    The interval is that of the line fit (``analysis.orders``): the errors carry no noise, so it measures their
    straightness. A slope that cannot be fitted makes a case that fails, with the reason.

    Returns
    -------
    Case
        With the slope.
    """
    try:
        fit = fit_order(h.numpy(), error.median(1).values.numpy(), floor=floor, points=len(h))
    except ValueError as reason:
        return slope_case(kind, reading, f"{case}: {reason}", (math.nan, math.nan, math.nan), limit, rule)
    return slope_case(kind, reading, case, (fit.slope, fit.low, fit.high), limit, rule)


def slope_case(kind: str, reading: str, case: str, slope: tuple[float, float, float], limit: float, rule: str) -> Case:
    """Return the case of a fitted slope, given as (slope, low, high), NaN where the fit failed."""
    return Case(kind, reading, case, *slope, limit, rule, SLOPE_TOLERANCE, LINE_FIT)


def round_off(*conditions: Tensor) -> Tensor:
    """Return the relative error (B,) that round-off may cause in quantities with these condition numbers (B,)."""
    return SAFETY * EPS * (1 + sum(conditions, torch.zeros(())))
