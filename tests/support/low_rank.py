"""Random low-rank mixtures that several test files share."""

from tests.support.problems import rand, randn
from toy_models.mixtures.low_rank import LowRankMixture


def random_low_rank(k, d, r, thin=0.05, seed=0):
    """Factors and means of unit size, diagonals from ``thin`` to one more."""
    weights = 0.5 + rand(k, seed=seed)
    factors, diagonals = randn(k, d, r, seed=seed + 2), thin + rand(k, d, seed=seed + 3)
    return LowRankMixture(weights / weights.sum(), randn(k, d, seed=seed + 1), factors, diagonals)
