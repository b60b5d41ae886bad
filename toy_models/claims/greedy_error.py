r"""D1 and D2: the error of the greedy gradient, as an integral over the trajectory and as its leading term.

Both live in the zeta coordinates :math:`y = x/\alpha`, :math:`z = \zeta`, in which every path is the
variance-exploding one; :math:`y'' = d\hat x_0/dz` along the trajectory is ``analysis.bounds.leading_term.curvature``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from analysis.bounds.leading_term import curvature, leading_term
from analysis.claims import PRINTED, Case, claim
from analysis.errors import relative_error
from analysis.flow import Flow
from analysis.paths import VarianceExploding, expand
from analysis.reference import ideal_gradient
from toy_models.claims import common
from toy_models.claims.common import Draw, target
from toy_models.problems import zoo

EXACTLY = "as printed, in the integral form"
LEADING = (
    "as printed: within 10 % for zeta <= 0.1, and the relative deviation falls as zeta^2, because y is even in zeta"
)
WITHIN = 0.1  # of the true error, for zeta <= 0.1: the statement's own numbers
SMALL = 0.1
SMOOTH = ("overlapping", "radial32", "product256")  # no direction thinner than three times that


@dataclass(frozen=True)
class Remainder:
    """Integrals along trajectories: of z y'' (B, d), of z Dy'' (B, d, d), and of z times their norms (B,)."""

    value: Tensor
    jacobian: Tensor
    norm: Tensor
    jacobian_norm: Tensor


@claim(
    "D1",
    "Phi - x1hat is the integral of z xbar''(z) dz from 0 to zeta along the trajectory, also with D in front; hence "
    "|g - g*| <= I' |grad L(Phi)| + |Dx1hat| Lip(grad L) I.",
    "this project (D1)",
)
def remainder(quick: bool, seed: int) -> Iterator[Case]:
    """Evaluate both integrals by Gauss quadrature, the identities against the reference, and the bound."""
    zetas = torch.tensor([0.03, 1.0] if quick else [0.03, 0.1, 0.3, 1.0, 2.0, 4.0], dtype=torch.float64)
    problems = ("overlapping",) if quick else ("gaussian", "overlapping", "ring8", "product256")
    for problem, path in product(problems, ("condot",) if quick else ("condot", "vp_linear")):
        schedule = common.path_named(path)
        drawn = common.states(problem, path, schedule.time_from_zeta(zetas), 3 if quick else 4, seed)
        yield from _remainder_cases(problem, drawn, (8, 16) if quick else (24, 48), f"{problem}, {path}")


def _remainder_cases(problem: str, drawn: Draw, nodes: tuple[int, int], name: str) -> Iterator[Case]:
    coarse, fine = integrate(problem, drawn, nodes[0]), integrate(problem, drawn, nodes[1])
    truth = ideal_gradient(drawn.flow, drawn.loss, drawn.x, drawn.t)
    prediction, slope = target(drawn)(drawn.x), common.slope_at(drawn.loss, truth.endpoint)
    certain = truth.error_bound + common.round_off()
    # Held to what the quadrature has left and to the reference's error, both relative to the smaller difference.
    left = (2 * (fine.value - coarse.value).norm(dim=1) + certain * truth.endpoint.norm(dim=1)) / fine.value.norm(dim=1)
    yield common.equal(PRINTED, EXACTLY, f"remainder, {name}", truth.endpoint - prediction, fine.value, left)
    other = truth.gradient - common.pulled(target(drawn), drawn.x, slope)
    rest, before = (torch.einsum("bij,bi->bj", found.jacobian, slope) for found in (fine, coarse))
    left = (2 * (rest - before).norm(dim=1) + certain * truth.gradient.norm(dim=1)) / rest.norm(dim=1)
    yield common.equal(PRINTED, EXACTLY, f"remainder with D in front, {name}", other, rest, left)
    error = (common.gradient("greedy", drawn) - truth.gradient).norm(dim=1)
    size = torch.linalg.matrix_norm(common.jacobian(target(drawn), drawn.x), 2)
    bound, loose = (found.jacobian_norm * slope.norm(dim=1) + size * found.norm for found in (fine, coarse))
    ratio, slack = error / bound, (bound - loose).abs() / bound + certain * truth.gradient.norm(dim=1) / bound
    worst = int((ratio - slack).argmax())
    case = f"error over bound, {name}"
    yield common.certain(PRINTED, EXACTLY, case, float(ratio[worst]), 1.0, tolerance=float(slack[worst]))


def integrate(problem: str, drawn: Draw, nodes: int) -> Remainder:
    """Return the integrals along the trajectories through the states, each from its own zeta."""
    alpha, zeta = drawn.flow.path.alpha(drawn.t), drawn.flow.path.zeta(drawn.t)
    path = VarianceExploding(float(zeta.max()))
    flow, d = zoo.build(problem, path), drawn.x.shape[1]
    points, weights = common.gauss(nodes)
    z = torch.cat([zeta[None], zeta * points.flip(0)[:, None]])
    # One copy of each state per direction in which it is differentiated.
    z, y = z.repeat_interleave(d, 1), (drawn.x / expand(alpha, drawn.x)).repeat_interleave(d, 0)
    tangents = torch.eye(d, dtype=y.dtype).repeat(len(drawn.x), 1) / expand(alpha.repeat_interleave(d), y)
    bends, moved = torch.func.jvp(lambda y: _curvatures(flow, y, path.time_from_zeta(z)), (y,), (tangents,))[:2]
    bends, moved = bends.unflatten(1, (-1, d))[:, :, 0], moved.unflatten(1, (-1, d)).mT
    w = weights.flip(0)[:, None] * zeta * z[1:, ::d]
    sizes = bends.norm(dim=-1), torch.linalg.matrix_norm(moved, 2)
    return Remainder(*(common.stacked(values, w) for values in (bends, moved, *sizes)))


def _curvatures(flow: Flow, y: Tensor, times: Tensor) -> Tensor:
    """Return y'' at all but the first of the times (n + 1, B), (n, B, d), along the trajectories from y."""
    found = common.trajectory(flow, y, times, 1)[1:]
    return curvature(flow, found.flatten(0, 1), times[1:].flatten()).unflatten(0, found.shape[:2])


@claim(
    "D2",
    "The gradient of <grad L(x1hat), zeta^2 xbar''(zeta)/2> in x, one Jacobian-vector product away, is the greedy "
    "gradient's error to leading order.",
    "this project (D2)",
)
def leading(quick: bool, seed: int) -> Iterator[Case]:
    """Hold the leading term against the true error of the registered greedy estimator on smooth flows."""
    zetas = SMALL / 2.0 ** torch.arange(4, dtype=torch.float64)
    for problem in SMOOTH[:1] if quick else SMOOTH:
        for path in ("condot",) if quick else ("condot", "cosine", "vp_linear"):
            times = common.path_named(path).time_from_zeta(zetas)
            drawn = common.states(problem, path, times, 8 if quick else 32, seed)
            truth = ideal_gradient(drawn.flow, drawn.loss, drawn.x, drawn.t)
            error = truth.gradient - common.gradient("greedy", drawn)
            estimate = leading_term(drawn.flow, drawn.loss, drawn.x, drawn.t)
            deviation = common.by_time(relative_error(estimate, error), len(times))
            floor = float((truth.error_bound * truth.gradient.norm(dim=1) / error.norm(dim=1)).max())
            largest = float(deviation.median(1).values.max())
            yield common.certain(PRINTED, LEADING, f"deviation, {problem}, {path}", largest, WITHIN)
            yield common.order(PRINTED, LEADING, f"{problem}, {path}", zetas, deviation, 2.0, floor=floor)
