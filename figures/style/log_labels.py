"""Labels of logarithmic axes: at least two numbers on each, and none that overprints another.

Matplotlib labels the minor ticks of a short axis in full, "3 × 10⁻¹4 × 10⁻¹", so that they run into each other; and one
that holds a single power of ten may show only that.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullFormatter, NullLocator

# Multiples of powers of ten, from sparse to dense: the first with two ticks or more in view is taken.
MULTIPLES = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8))
PLAIN = (1e-3, 1e4)  # between these, numbers are read more easily than powers


def label_logarithmic(figure: Figure) -> None:
    """Label every logarithmic axis of a figure whose ticks were not set by hand."""
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            if axis.get_scale() == "log" and type(axis.get_major_locator()) is LogLocator:
                _label(axis)


def _label(axis: Axis) -> None:
    axis.set_minor_formatter(NullFormatter())
    low, high = sorted(axis.get_view_interval())
    if len(_in_view((1,), low, high)) > 1:
        return
    found = (at for some in MULTIPLES[1:] if len(at := _in_view(some, low, high)) > 1)
    places = next(found, None)
    if places is None:  # less than an eighth of a decade: as good as linear
        places = [v for v in MaxNLocator(3).tick_values(low, high) if low <= v <= high]
        axis.set_minor_locator(NullLocator())
    axis.set_major_locator(FixedLocator(places))
    if PLAIN[0] <= low and high <= PLAIN[1]:
        axis.set_major_formatter("{x:g}")


def _in_view(multiples: tuple[float, ...], low: float, high: float) -> list[float]:
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    places = [multiple * 10.0**power for power in powers for multiple in multiples]
    return [at for at in places if low * (1 - 1e-9) <= at <= high * (1 + 1e-9)]
