r"""D1 and D2: the error of the greedy gradient, as an integral over the trajectory and as its leading term.

Both use the zeta coordinates :math:`y = x/\alpha`, :math:`z = \zeta`, in which every path is the variance-exploding
one; :math:`y'' = d\hat x_0/dz` along the trajectory is ``analysis.bounds.leading_term.curvature``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from analysis.bounds.leading_term import curvature
from analysis.claims import PRINTED, READING, STATEMENTS, Case, claim
from analysis.claims.cases import deterministic_case, equality_case, round_off
from analysis.claims.leading import HALVINGS, leading_term_cases
from analysis.claims.states import (
    FlowStates,
    estimated_gradient,
    gauss_legendre,
    jacobian_by_autograd,
    loss_gradient,
    target_prediction,
    trajectory,
    vjp_by_autograd,
    weighted_sum,
)
from analysis.flow import Flow
from analysis.paths import VarianceExploding, expand
from analysis.reference import Reference, ideal_gradient
from toy_models.claims.common import path_named, sample_states
from toy_models.problems import zoo

EXACTLY = "as printed, in the integral form"
AGREES = "within 10 %, and the relative deviation falls as zeta^2, because y is even in zeta"
ANY_LAW = f"as printed, for any law at zeta <= 0.1: {AGREES}"
BELOW_THINNEST = f"zeta at most a third of the deviation along the thinnest direction, and at most 0.1: {AGREES}"
SMALL, SHARE = 0.1, 1 / 3
SMOOTH = ("overlapping", "radial32", "product256")  # a third of their thinnest direction's deviation is above 0.1
THIN = ("gaussian", "ring8", "separated", "anisotropic", "digits")


@dataclass(frozen=True)
class Remainder:
    """Integrals along trajectories: of z y'' (B, d), of z Dy'' (B, d, d), and of z times their norms (B,)."""

    value: Tensor
    jacobian: Tensor
    norm: Tensor
    jacobian_norm: Tensor


@claim("D1", *STATEMENTS["D1"])
def remainder(quick: bool, seed: int) -> Iterator[Case]:
    """Evaluate both integrals by Gauss quadrature, the identities against the reference, and the bound."""
    zetas = torch.tensor([0.03, 1.0] if quick else [0.03, 0.1, 0.3, 1.0, 2.0, 4.0], dtype=torch.float64)
    problems = ("overlapping",) if quick else ("gaussian", "overlapping", "ring8", "product256")
    for problem, path in product(problems, ("condot",) if quick else ("condot", "vp_linear")):
        states = sample_states(problem, path, path_named(path).time_from_zeta(zetas), 3 if quick else 4, seed)
        coarse, fine = (integrate(problem, states, nodes) for nodes in ((8, 16) if quick else (24, 48)))
        yield from _remainder_cases(states, coarse, fine, f"{problem}, {path}")


def _remainder_cases(states: FlowStates, coarse: Remainder, fine: Remainder, name: str) -> Iterator[Case]:
    """Compare both identities and the bound, with a tolerance from the quadrature's and the reference's errors."""
    truth = ideal_gradient(states.flow, states.loss, states.x, states.t)
    end_gradient = loss_gradient(states.loss, truth.endpoint)
    uncertain = truth.error_bound + round_off()
    left = 2 * (fine.value - coarse.value).norm(dim=1) + uncertain * truth.endpoint.norm(dim=1)
    difference = truth.endpoint - target_prediction(states)(states.x)
    limit = left / fine.value.norm(dim=1)
    yield equality_case(PRINTED, EXACTLY, f"remainder, {name}", difference, fine.value, limit)
    difference = truth.gradient - vjp_by_autograd(target_prediction(states), states.x, end_gradient)
    pulled, before = (torch.einsum("bij,bi->bj", part.jacobian, end_gradient) for part in (fine, coarse))
    left = 2 * (pulled - before).norm(dim=1) + uncertain * truth.gradient.norm(dim=1)
    limit = left / pulled.norm(dim=1)
    yield equality_case(PRINTED, EXACTLY, f"remainder with D in front, {name}", difference, pulled, limit)
    yield _bound_case(states, truth, coarse, fine, name)


def _bound_case(states: FlowStates, truth: Reference, coarse: Remainder, fine: Remainder, name: str) -> Case:
    """Return the case that greedy's error is below the bound, at the state where it comes closest."""
    error = (estimated_gradient("greedy", states) - truth.gradient).norm(dim=1)
    end_gradient = loss_gradient(states.loss, truth.endpoint).norm(dim=1)
    size = torch.linalg.matrix_norm(jacobian_by_autograd(target_prediction(states), states.x), 2)
    bound, loose = (part.jacobian_norm * end_gradient + size * part.norm for part in (fine, coarse))
    uncertain = (truth.error_bound + round_off()) * truth.gradient.norm(dim=1)
    ratio, slack = error / bound, (bound - loose).abs() / bound + uncertain / bound
    worst = int((ratio - slack).argmax())
    case = f"error over bound, {name}"
    return deterministic_case(PRINTED, EXACTLY, case, float(ratio[worst]), 1.0, tolerance=float(slack[worst]))


def integrate(problem: str, states: FlowStates, nodes: int) -> Remainder:
    """Return the integrals along the trajectories through the states, each from its own zeta."""
    alpha, zeta = states.flow.path.alpha(states.t), states.flow.path.zeta(states.t)
    path = VarianceExploding(float(zeta.max()))
    flow, d = zoo.build(problem, path), states.x.shape[1]
    points, weights = gauss_legendre(nodes)
    z = torch.cat([zeta[None], zeta * points.flip(0)[:, None]])
    # One copy of each state per direction in which it is differentiated.
    z, y = z.repeat_interleave(d, 1), (states.x / expand(alpha, states.x)).repeat_interleave(d, 0)
    tangents = torch.eye(d, dtype=y.dtype).repeat(len(states.x), 1) / expand(alpha.repeat_interleave(d), y)
    values, products = torch.func.jvp(lambda y: _curvatures(flow, y, path.time_from_zeta(z)), (y,), (tangents,))[:2]
    values, jacobians = values.unflatten(1, (-1, d))[:, :, 0], products.unflatten(1, (-1, d)).mT
    w = weights.flip(0)[:, None] * zeta * z[1:, ::d]
    norms = values.norm(dim=-1), torch.linalg.matrix_norm(jacobians, 2)
    return Remainder(*(weighted_sum(part, w) for part in (values, jacobians, *norms)))


def _curvatures(flow: Flow, y: Tensor, times: Tensor) -> Tensor:
    """Return y'' at all but the first of the times (n + 1, B), (n, B, d), along the trajectories from y."""
    states = trajectory(flow, y, times, 1)[1:]
    return curvature(flow, states.flatten(0, 1), times[1:].flatten()).unflatten(0, states.shape[:2])


@claim("D2", *STATEMENTS["D2"])
def leading(quick: bool, seed: int) -> Iterator[Case]:
    """Compare the leading term with greedy's true error, at zetas below the law's smallest scale."""
    for problem in (*SMOOTH[:1], *THIN[:1]) if quick else (*SMOOTH, *THIN):
        largest = min(SMALL, SHARE * thinnest(problem))
        for path in ("condot",) if quick or problem in THIN else ("condot", "cosine", "vp_linear"):
            yield from _leading_cases(READING, BELOW_THINNEST, problem, path, largest, quick, seed)
    for problem in () if quick else THIN:
        yield from _leading_cases(PRINTED, ANY_LAW, problem, "condot", SMALL, quick, seed)


def thinnest(problem: str) -> float:
    """Return the least standard deviation of any component along any direction."""
    mixture = zoo.distribution(zoo.build(problem, path_named("condot")))
    return float(mixture.eigenvalues.min().sqrt())


def _leading_cases(
    kind: str, reading: str, problem: str, path: str, largest: float, quick: bool, seed: int
) -> Iterator[Case]:
    zetas = largest * HALVINGS
    states = sample_states(problem, path, path_named(path).time_from_zeta(zetas), 8 if quick else 32, seed)
    truth = ideal_gradient(states.flow, states.loss, states.x, states.t)
    yield from leading_term_cases(kind, reading, f"{problem}, {path}", states, truth, zetas)
