"""What was meant by a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

NEAR = 0.7  # of the ratio of difflib, 1 for equal names


def nearest(name: Any, names: Iterable[str]) -> str | None:
    """Return the known name that is nearest to an unknown one, if one is near; upper and lower case are alike."""
    spelled = {known.lower(): known for known in names}
    near = difflib.get_close_matches(name.lower(), spelled, n=1, cutoff=NEAR) if isinstance(name, str) else []
    return spelled[near[0]] if near else None


def meant(name: Any, names: Iterable[str]) -> str:
    """Return "; did you mean 'X'?" for the nearest known name, or "" where none is near."""
    near = nearest(name, names)
    return f"; did you mean {near!r}?" if near else ""
