"""Separate searches of two optimisers. The truth is searches that are replaced by lists of known scores."""

import math

import pytest
import torch

from analysis.search import Tried
from analysis.separate_search import SeparateSearches


class Known:
    """A search whose trials have given scores, and which notes what it was asked."""

    def __init__(self, *scores):
        self.aims, self.scores, self.asked = {"error": 1}, list(scores), []

    def grown(self, known, wide, kept, budget):
        self.asked.append(([one.score("error") for one in known], wide, kept, budget))
        return [Tried({}, {}, {"error": torch.tensor([score])}, self.aims) for score in self.scores]


def scores(pairs):
    return [(search, one.score("error")) for search, one in pairs]


def test_every_search_grows_from_its_own_trials_and_the_best_of_all_is_chosen():
    one, other = Known(3.0, 2.0), Known(4.0, 1.0)
    both = SeparateSearches([one, other])
    assert scores(both.grow(2, 1, 96)) == [(one, 3.0), (one, 2.0), (other, 4.0), (other, 1.0)]
    assert scores([both.best("error")]) == [(other, 1.0)]
    one.scores, other.scores = [0.5], [5.0]
    assert scores(both.grow(2, 1, 384)) == [(one, 0.5), (other, 5.0)]
    assert scores([both.best("error")]) == [(one, 0.5)]
    assert one.asked == [([], 2, 1, 96), ([3.0, 2.0], 2, 1, 384)]
    assert other.asked == [([], 2, 1, 96), ([4.0, 1.0], 2, 1, 384)]


def test_a_search_whose_trials_were_all_lost_starts_again_and_the_others_go_on():
    lost, found = Known(10.0, math.nan), Known(10.0, 9.0)
    both = SeparateSearches([lost, found], lost=10.0)
    both.grow(2, 1, 96)
    both.grow(2, 1, 384)
    assert [asked[0] for asked in lost.asked] == [[], []]
    assert [asked[0] for asked in found.asked] == [[], [10.0, 9.0]]


def test_nothing_tried_has_no_best():
    empty = SeparateSearches([Known()])
    assert empty.grow(2, 1, 1) == []
    with pytest.raises(ValueError, match="nothing has been tried yet; call grow"):
        empty.best("error")
