"""Estimators of the guidance gradient, one file per family, found by name in ``ESTIMATORS``."""

from analysis.gradients.end_to_end import end_to_end
from analysis.gradients.greedy import greedy
from analysis.gradients.lookahead import lookahead
from analysis.gradients.registry import ESTIMATORS, Estimate, register

__all__ = ["ESTIMATORS", "Estimate", "end_to_end", "greedy", "lookahead", "register"]
