"""D2 on any flow: the greedy gradient's error beside its leading term."""

from __future__ import annotations

from torch import Tensor

from analysis.bounds.leading_term import leading_term
from analysis.claims.states import FlowStates, by_time, estimated_gradient
from analysis.errors import relative_error
from analysis.reference import Reference

WITHIN = 0.1  # the largest median deviation that still counts as "to leading order"
BELOW_THINNEST = 1 / 3  # the largest zeta, as a share of the standard deviation along the law's thinnest direction
POWER = 2.0  # of zeta, with which the relative deviation falls where y is even in zeta


def leading_term_deviation(states: FlowStates, truth: Reference, times: int) -> tuple[Tensor, float]:
    """Return the relative distance of the leading term from greedy's error, (times, n), and the floor of it.

    ``states`` hold n states at each of so many times; the floor is what the truth's own error may make of the distance.
    """
    error = truth.gradient - estimated_gradient("greedy", states)
    estimate = leading_term(states.flow, states.loss, states.x, states.t)
    deviation = by_time(relative_error(estimate, error), times)
    return deviation, float((truth.error_bound * truth.gradient.norm(dim=1) / error.norm(dim=1)).max())
