"""D2 on any flow: the greedy gradient's error beside its leading term."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from analysis.bounds.leading_term import leading_term
from analysis.claims.cases import deterministic_case, order_case
from analysis.claims.ledger import Case
from analysis.claims.states import FlowStates, by_time, estimated_gradient
from analysis.errors import relative_error
from analysis.reference import Reference

WITHIN = 0.1  # the largest median deviation that still counts as "to leading order"
POWER = 2.0  # of zeta, with which the relative deviation falls where y is even in zeta
HALVINGS = 2.0 ** -torch.arange(4, dtype=torch.float64)


def leading_term_cases(
    kind: str, reading: str, name: str, states: FlowStates, truth: Reference, zetas: Tensor, power: float = POWER
) -> Iterator[Case]:
    """Measure the distance of the leading term from greedy's error, and the power of zeta with which it falls.

    ``states`` hold n states at each zeta of ``zetas`` (Z,). The distance is relative; its median over states counts.

    Yields
    ------
    Case
        The distance, and the power.
    """
    deviation, floor = _deviation(states, truth, len(zetas))
    largest = float(deviation.median(1).values.max())
    yield deterministic_case(kind, reading, f"deviation, {name}", largest, WITHIN)
    yield order_case(kind, reading, name, zetas, deviation, power, floor=floor)


def _deviation(states: FlowStates, truth: Reference, times: int) -> tuple[Tensor, float]:
    """Compute the relative distance of the leading term from greedy's error, and the floor of that distance.

    ``states`` hold n states at each of ``times`` times; the floor is the part that the truth's own error may cause.

    Returns
    -------
    tuple
        The distance (times, n), and the floor.
    """
    error = truth.gradient - estimated_gradient("greedy", states)
    estimate = leading_term(states.flow, states.loss, states.x, states.t)
    deviation = by_time(relative_error(estimate, error), times)
    return deviation, float((truth.error_bound * truth.gradient.norm(dim=1) / error.norm(dim=1)).max())
