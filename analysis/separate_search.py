"""Several searches as one, as for optimisers that want rates of their own: each has as many trials as the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Generic

from analysis.search import B, Search, Tried


class SeparateSearches(Generic[B]):
    """Searches of one estimator with different ranges, on the same measurements, and what they have tried.

    In one search for two optimisers, of a few trials over one range of rates, the optimiser whose good rates lie at an
    end of it is hardly tried where it works.

    Parameters
    ----------
    searches : at least one, with the same aims
    lost : a trial with no better score says nothing, and a search with such alone starts again at a larger budget
    """

    def __init__(self, searches: Sequence[Search[B]], lost: float = math.inf) -> None:
        self.searches, self.lost = tuple(searches), lost
        self.known: list[tuple[Search[B], Tried]] = []

    @property
    def aims(self) -> tuple[str, ...]:
        """The metrics to tune for."""
        return tuple(self.searches[0].aims)

    def grow(self, wide: int, kept: int, budget: float) -> list[tuple[Search[B], Tried]]:
        """Try more within a budget in every search, as ``Search.grown`` does.

        Returns
        -------
        list
            The new trials, each with its search.
        """
        more = [(one, made) for one in self.searches for made in one.grown(self._of(one), wide, kept, budget)]
        self.known += more
        return more

    def _of(self, search: Search[B]) -> list[Tried]:
        """Return what a search has tried, or nothing where all of it was lost."""
        tried = [one for by, one in self.known if by is search]
        return tried if any(one.score(aim) < self.lost for one in tried for aim in self.aims) else []

    def best(self, aim: str) -> tuple[Search[B], Tried]:
        """Return the best of all trials by an aim, with its search; ``ValueError`` if nothing has been tried."""
        if not self.known:
            raise ValueError("nothing has been tried yet; call grow with a budget that pays for a step")
        return min(self.known, key=lambda pair: pair[1].score(aim))
