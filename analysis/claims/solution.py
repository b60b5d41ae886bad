"""P1 on any flow: the exact solution as an integral, and its Taylor expansion in gamma."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from analysis.bounds.leading_term import curvature
from analysis.claims.cases import equality_case, order_case, round_off
from analysis.claims.ledger import PRINTED, Case
from analysis.claims.states import FlowStates, gauss_legendre, trajectory
from analysis.errors import relative_error
from analysis.reference import EPS, SAFETY
from analysis.solvers.coordinates import COORDINATES

AS_PRINTED = "as printed, in gamma and equally in zeta"
T = 0.3  # where the measurement starts


def solution_cases(states: FlowStates, name: str) -> Iterator[Case]:
    """Integrate both forms along finely solved trajectories from one time, and fit the errors of the expansion."""
    yield from integral_cases(states, name)
    yield from expansion_cases(states, name)


def integral_cases(states: FlowStates, name: str) -> Iterator[Case]:
    """Compare both integrals along a trajectory with its end, within what fewer nodes change."""
    for coordinate in ("gamma", "zeta"):
        (coarse, _), (fine, end) = (_integrated(states, coordinate, nodes) for nodes in (16, 24))
        limit = 2 * relative_error(coarse, fine) + round_off()
        yield equality_case(PRINTED, AS_PRINTED, f"integral in {coordinate}, {name}", fine, end, limit)


def _integrated(states: FlowStates, coordinate: str, nodes: int) -> tuple[Tensor, Tensor]:
    """Return x_t from the integral in a coordinate and from the ODE in t, (B, d), with t half way to the data."""
    c, path = COORDINATES[coordinate], states.flow.path
    start, end = states.t[0], (1 + states.t[0]) / 2
    values = [c.value(path, s) for s in (start, end)]
    points, weights = gauss_legendre(nodes)
    inner = c.time(path, values[0] + points * (values[1] - values[0]))
    solved = trajectory(states.flow, states.x, torch.cat([start[None], inner, end[None]]), nodes // 8)
    times = inner.repeat_interleave(len(states.x))
    readouts = states.flow.predict(solved[1:-1].flatten(0, 1), times, c.readout(path, times)).unflatten(0, (nodes, -1))
    scales = [c.scale(path, s) for s in (start, end)]
    integral = torch.einsum("n,nbd->bd", weights, readouts) * (values[1] - values[0])
    return scales[1] / scales[0] * states.x + scales[1] * integral, solved[-1]


def expansion_cases(states: FlowStates, name: str) -> Iterator[Case]:
    """Fit the local errors of the Taylor expansions of order one and two in gamma."""
    path, flow, x, t = states.flow.path, states.flow, states.x, states.t[0]
    gamma, sigma = path.gamma(t), path.sigma(t)
    h = 0.02 * 2.0 ** torch.arange(4, dtype=torch.float64)  # relative to gamma
    times = torch.cat([t[None], path.time_from_gamma(gamma * (1 + h))])
    truth = trajectory(flow, x, times, 8)[1:] / path.sigma(times[1:])[:, None, None]
    first_derivative = flow.predict(x, t, path.readout("target", t))
    # d x1hat/dgamma = zeta^3 d^2(x/alpha)/dzeta^2, as x1hat = y - zeta y' and dzeta = -zeta^2 dgamma.
    second_derivative = path.zeta(t) ** 3 * curvature(flow, x, t)
    step = (gamma * h)[:, None, None]
    first = x / sigma + step * first_derivative
    for k, expansion in ((1, first), (2, first + step**2 / 2 * second_derivative)):
        error = (expansion - truth).norm(dim=-1)
        floor = float(1e3 * SAFETY * EPS * truth.norm(dim=-1).max())
        yield order_case(PRINTED, AS_PRINTED, f"expansion of order {k}, {name}", h, error, k + 1, floor=floor)
