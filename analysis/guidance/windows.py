"""Windows of time in which samplers guide, to measure when guidance matters (arXiv 2502.08006, proposition 5.2)."""

from __future__ import annotations

from torch import Tensor

from analysis import checks

Window = tuple[float, float]
WHOLE: Window = (0.0, 1.0)


def inside(times: Tensor, window: Window) -> list[bool]:
    """Return which of the times (n,) lie in a window [start, end).

    Returns
    -------
    list
        Of n booleans.

    Raises
    ------
    ValueError
        Unless the window is two numbers with 0 <= start < end <= 1.
    """
    ends = checks.sequence("window", window)
    known = len(ends) == 2 and all(0 <= checks.number("window", end) <= 1 for end in ends)
    if not known or ends[0] >= ends[1]:
        raise ValueError(f"window must be two times, start before end, in [0, 1], got {window!r}")
    return [bool(ends[0] <= t < ends[1]) for t in times.tolist()]
