"""P1, T1a, T1b and P2: statements that hold without a step size, to round-off."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor

from analysis.bounds.leading_term import curvature
from analysis.claims import PRINTED, READING, Case, claim
from analysis.paths import expand
from analysis.reference import EPS, SAFETY
from analysis.solvers.coordinates import COORDINATES
from toy_models.claims import common
from toy_models.claims.common import SHORT, Draw, equal, round_off, states, target

PATHS = ("condot", "cosine", "vp_linear", "ve", "polynomial")
T = 0.4
IN_GAMMA = "as printed, in gamma and equally in zeta"
# Where else one step is greedy: each reading adds a coordinate to what is printed, and names the paths.
IN_T = {
    "in gamma, in zeta, and in t on CondOT but on no other path": ("condot",),
    "in gamma, in zeta, and in t where alpha and sigma are straight lines in t (CondOT, VE), nowhere else": (
        "condot",
        "ve",
    ),
}


@claim(
    "P1",
    "x_t = (sigma_t/sigma_s) x_s + sigma_t * integral of x1hat dgamma; in x/alpha it is that of x0hat dzeta; the "
    "Taylor expansion of order k in gamma errs by O(h^(k+1)).",
    "arXiv 2502.08006 (P1)",
)
def solution(quick: bool, seed: int) -> Iterator[Case]:
    """Integrate both forms along finely solved trajectories, and fit the local errors of the expansion."""
    problems, paths = (("overlapping",), PATHS[:1]) if quick else (("gaussian", "overlapping", "product256"), PATHS)
    for problem, path in product(problems, paths):
        drawn = states(problem, path, [0.3], 4 if quick else 16, seed)
        yield from integrals(drawn, f"{problem}, {path}")
        yield from taylor(drawn, f"{problem}, {path}")


def integrals(drawn: Draw, name: str) -> Iterator[Case]:
    """Hold both integrals along a trajectory against its end, within what fewer nodes change."""
    for coordinate in ("gamma", "zeta"):
        (coarse, _), (fine, end) = (_integrated(drawn, coordinate, nodes) for nodes in (16, 24))
        limit = 2 * common.relative_error(coarse, fine) + round_off()
        yield equal(PRINTED, IN_GAMMA, f"integral in {coordinate}, {name}", fine, end, limit)


def _integrated(drawn: Draw, coordinate: str, nodes: int) -> tuple[Tensor, Tensor]:
    """Return x_t from the integral in a coordinate and from the ODE in t, (B, d), with t half way to the data."""
    c, path = COORDINATES[coordinate], drawn.flow.path
    start, end = drawn.t[0], (1 + drawn.t[0]) / 2
    values = [c.value(path, s) for s in (start, end)]
    points, weights = common.gauss(nodes)
    inner = c.time(path, values[0] + points * (values[1] - values[0]))
    found = common.trajectory(drawn.flow, drawn.x, torch.cat([start[None], inner, end[None]]), nodes // 8)
    where = inner.repeat_interleave(len(drawn.x))
    readouts = drawn.flow.predict(found[1:-1].flatten(0, 1), where, c.readout(path, where)).unflatten(0, (nodes, -1))
    scales = [c.scale(path, s) for s in (start, end)]
    integral = torch.einsum("n,nbd->bd", weights, readouts) * (values[1] - values[0])
    return scales[1] / scales[0] * drawn.x + scales[1] * integral, found[-1]


def taylor(drawn: Draw, name: str) -> Iterator[Case]:
    """Fit the local errors of the expansions of order one and two in gamma."""
    path, flow, x, t = drawn.flow.path, drawn.flow, drawn.x, drawn.t[0]
    gamma, sigma = path.gamma(t), path.sigma(t)
    h = 0.02 * 2.0 ** torch.arange(4, dtype=torch.float64)  # relative to gamma
    times = torch.cat([t[None], path.time_from_gamma(gamma * (1 + h))])
    truth = common.trajectory(flow, x, times, 8)[1:] / path.sigma(times[1:])[:, None, None]
    slope = flow.predict(x, t, path.readout("target", t))
    # d x1hat/dgamma = zeta^3 d^2(x/alpha)/dzeta^2, as x1hat = y - zeta y' and dzeta = -zeta^2 dgamma.
    bend = path.zeta(t) ** 3 * curvature(flow, x, t)
    step = (gamma * h)[:, None, None]
    first = x / sigma + step * slope
    for k, expansion in ((1, first), (2, first + step**2 / 2 * bend)):
        error = (expansion - truth).norm(dim=-1)
        floor = float(1e3 * SAFETY * EPS * truth.norm(dim=-1).max())
        yield common.order(PRINTED, IN_GAMMA, f"expansion of order {k}, {name}", h, error, k + 1, floor=floor)


@claim(
    "T1a",
    "The greedy gradient is the gradient through one explicit Euler step to t = 1 in gamma (equally in zeta).",
    "arXiv 2502.08006 (T1a)",
)
def one_step(quick: bool, seed: int) -> Iterator[Case]:
    """Compare greedy with the registered end-to-end estimators, and with autograd through the step as printed."""
    problems = ("overlapping",) if quick else ("gaussian", "overlapping", "ring8", "product256", "digits")
    for problem, path in product(problems, PATHS):
        yield from one_step_cases(states(problem, path, [T], 6, seed), problem, path)


def one_step_cases(drawn: Draw, problem: str, path: str) -> Iterator[Case]:
    """Hold one step in gamma, in zeta and in t against greedy, each to round-off or, where it differs, beyond it."""
    greedy, limit = common.gradient("greedy", drawn), _step_round_off(drawn)
    cases = {f"{name}, {problem}, {path}": found for name, found in _one_step_gradients(drawn).items()}
    for kind, reading in ((PRINTED, IN_GAMMA), *((READING, r) for r in IN_T)):
        yield from (equal(kind, reading, case, found, greedy, limit) for case, found in cases.items())
    euler = common.gradient("end_to_end", drawn, steps=1, solver="euler")
    for reading, straight in IN_T.items():
        case = equal(READING, reading, f"euler in t, {problem}, {path}", euler, greedy, limit)
        yield case if path in straight else _apart(reading, case, euler, greedy)


def _apart(reading: str, case: Case, found: Tensor, expected: Tensor) -> Case:
    least = float(common.relative_error(found, expected).min())
    return common.certain(READING, reading, case.case, least, case.limit, "at least")


def _one_step_gradients(drawn: Draw) -> dict[str, Tensor]:
    def step(x: Tensor) -> Tensor:
        path, t, one = drawn.flow.path, drawn.t[0], torch.ones((), dtype=torch.float64)
        ratio = path.sigma(one) / path.sigma(t)  # sigma_1 gamma_1 = alpha_1, also where gamma_1 is infinite
        return ratio * x + (path.alpha(one) - path.alpha(t) * ratio) * target(drawn)(x)

    by_hand = common.pulled(step, drawn.x, common.slope_at(drawn.loss, step(drawn.x)))
    solved = {s: common.gradient("end_to_end", drawn, steps=1, solver=s) for s in ("ddim", "euler_zeta")}
    return {"the printed step by autograd": by_hand, "end-to-end in gamma": solved["ddim"]} | {
        "end-to-end in zeta": solved["euler_zeta"]
    }


def _step_round_off(drawn: Draw) -> Tensor:
    """Return the round-off of one step: the condition of its gradient, and the size of terms that cancel."""

    def gradient(x: Tensor) -> Tensor:
        return common.pulled(target(drawn), x, slope(x))

    def slope(x: Tensor) -> Tensor:
        return common.slope_at(drawn.loss, target(drawn)(x).detach())

    terms = slope(drawn.x) / expand(drawn.flow.path.alpha(drawn.t), drawn.x)
    value = gradient(drawn.x)
    cancelled = common.relative_error(value + terms, value)  # |terms| / |gradient|
    return round_off(common.condition(gradient, drawn.x), cancelled * (1 + drawn.x.norm(dim=1)))


@claim(
    "T1b",
    "The greedy gradient is one implicit Euler step of the continuous adjoint, from s = 1 to t in gamma.",
    "arXiv 2502.08006 (T1b)",
)
def adjoint_step(quick: bool, seed: int) -> Iterator[Case]:
    """Hold greedy (DDIM's gradient where noise is left at the end) against one step in each reading."""
    problems, paths = (("overlapping",), ("condot", SHORT)) if quick else (("gaussian", "overlapping"), (*PATHS, SHORT))
    for problem, path in product(problems, paths):
        yield from adjoint_cases(states(problem, path, [T], 6, seed), problem, path)


def adjoint_cases(drawn: Draw, problem: str, path: str) -> Iterator[Case]:
    """Hold every reading of the adjoint's step against greedy, at states of one time."""
    options = {"steps": 1, "solver": "ddim"} if path == SHORT else {}
    greedy, limit = common.gradient("end_to_end" if options else "greedy", drawn, **options), _step_round_off(drawn)
    for (kind, reading), found in _adjoint_readings(drawn).items():
        yield equal(kind, reading, f"{problem}, {path}", found, greedy, limit)


def _adjoint_readings(drawn: Draw) -> dict[tuple[str, str], Tensor]:
    """Return the adjoint at t after one step in each reading, from the loss gradient at the end of the same step."""
    path, t, one = drawn.flow.path, drawn.t[0], torch.ones((), dtype=torch.float64)
    alpha, sigma = [path.alpha(t), path.alpha(one)], [path.sigma(t), path.sigma(one)]
    readout = path.combination(alpha[1].expand_as(drawn.t), sigma[1].expand_as(drawn.t), drawn.t)
    old = common.slope_at(drawn.loss, drawn.flow.predict(drawn.x, drawn.t, readout))
    matrix = common.jacobian(target(drawn), drawn.x).mT
    gain = alpha[1] - alpha[0] * sigma[1] / sigma[0]  # sigma_1 h, finite where h is not
    product_ = torch.einsum("bij,bj->bi", matrix, old)
    # The implicit step (I - h sigma_t J^T) a' = a in units of sigma, times sigma_1: at sigma_1 = 0 its solution is 0.
    system = sigma[1] * torch.eye(drawn.x.shape[1], dtype=torch.float64) - gain * sigma[0] * matrix
    implicit = sigma[1] ** 2 / sigma[0] * torch.linalg.solve(system, old)
    return {
        (PRINTED, "fully implicit: Jacobian at the new state, adjoint at the new state, a linear solve"): implicit,
        (READING, "Jacobian at the new state x_t, adjoint at the old one"): sigma[1] / sigma[0] * old + gain * product_,
        (READING, "explicit: Jacobian and adjoint at the old state"): common.gradient(
            "adjoint_deis", drawn, steps=1, order=1
        ),
    }


@claim(
    "P2",
    "A step x' = x - eta g along the greedy gradient moves the sample by dPhi = -eta DPhi Dx1hat^T grad L.",
    "arXiv 2502.08006 (P2)",
)
def dynamics(quick: bool, seed: int) -> Iterator[Case]:
    """Differentiate the exact map numerically along greedy, and hold that against the formula in both readings."""
    problems = ("gaussian", "product256") if quick else ("gaussian", "product256", "radial32")
    for problem, path in product(problems, ("condot",) if quick else ("condot", "cosine", "vp_linear")):
        drawn = states(problem, path, [T], 6, seed)
        endpoint = drawn.flow.exact_endpoint(drawn.x, drawn.t)  # type: ignore[attr-defined]
        found, limit = _moved(drawn, common.gradient("greedy", drawn))
        for reading, where in (("x1hat(x)", target(drawn)(drawn.x)), ("x_1 = Phi(x)", endpoint)):
            step = common.pulled(target(drawn), drawn.x, common.slope_at(drawn.loss, where))
            expected = -_push(drawn, step)
            yield equal(READING, f"grad L is taken at {reading}", f"{problem}, {path}", found, expected, limit)


def _push(drawn: Draw, v: Tensor) -> Tensor:
    """Return DPhi v, (B, d), from the pullbacks of the basis."""
    pull = drawn.flow.exact_endpoint_vjp(drawn.x, drawn.t)[1]  # type: ignore[attr-defined]
    basis = torch.eye(v.shape[1], dtype=v.dtype)
    return torch.stack([(pull(e.expand_as(v)) * v).sum(1) for e in basis], 1)


def _moved(drawn: Draw, g: Tensor) -> tuple[Tensor, Tensor]:
    """Return d Phi(x - eta g)/d eta at 0 by differences of fourth order, and a bound of its relative error, (B,)."""
    size = g.norm(dim=1, keepdim=True)
    h = EPS**0.2 * drawn.x.norm(dim=1, keepdim=True)
    ends = {k: drawn.flow.exact_endpoint(drawn.x - k * h * g / size, drawn.t) for k in (-2, -1, 1, 2)}  # type: ignore[attr-defined]
    near, far = (size * (ends[k] - ends[-k]) / (2 * k * h) for k in (1, 2))
    fourth = (4 * near - far) / 3
    # The error of the fourth-order formula is below its distance from the second-order one, and above round-off over h.
    return fourth, common.relative_error(near, fourth) + round_off() / EPS**0.2
