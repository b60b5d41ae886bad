"""The audit of the bounds: random and zoo mixtures, every path, states, times and estimators, all judged.

A cell is a stack of groups, each a mixture on a path at a time; a row is one state and one estimator. Errors and bounds
are relative to the ideal gradient's norm. The errors are those from references (``analysis.reference``), which share no
trajectory with a bound: a bound that is derived wrongly can be exceeded. ``allowance`` is the numerical error: of the
truth, its certified bound, and of the trajectory that a bound is computed on, from two step sizes.

``identity_gap`` is by how much the integrals of z y'' dz and of z (D y'')^T v dz miss Phi - x1hat and
(D Phi - D x1hat)^T v, which D1 says they are equal to; ``identity_allowance`` is its numerical error. It is zero only
for the right second derivative, where a bound of a norm can be too large, and so hold, for a wrong one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis import solvers
from analysis.bounds import remainder, stability
from analysis.bounds.leading_term import leading_term
from analysis.experiment import Cell
from analysis.flow import Flow
from analysis.gradients import ESTIMATORS
from analysis.reference import EPS, SAFETY
from analysis.settings import Options
from toy_models.bounds.a_priori import a_priori
from toy_models.bounds.groups import Groups, Solved, Truth, draw, solve, truths
from toy_models.bounds.stacked import StackedMixtures
from toy_models.bounds.tightness import RESOLVED, judge
from toy_models.problems import zoo
from toy_models.problems.random_mixtures import random_mixture

SUITE = "theory"
SEGMENTS = 8  # of the time left; grids of 2, 4 and 8 steps are among their ends
STEPS = (2, 4, 8)
SOLVERS = ("euler", "midpoint", "heun", "rk4")
FIRST, FINEST = 4, 32  # integration steps per segment
JUDGED = 8  # states of each group on which end-to-end gradients are judged


def cells(options: Options) -> list[Cell]:
    """Return cells of random mixtures by (d, K), and one cell per zoo problem; a quick run has one of the former."""
    dims, counts = ((3,), (4,)) if options.quick else ((1, 2, 4, 8, 32), (1, 4, 16))
    random = [(f"random_d{d}_k{k}", d, k, 32 if options.quick else 384) for d in dims for k in counts]
    names = () if options.quick else zoo.PROBLEMS
    flows = {name: zoo.distribution(zoo.build(name, zoo.ZOO_PATHS["condot"]())) for name in names}
    known = [(name, flow.dim, len(flow.weights), 256) for name, flow in flows.items()]
    return [_cell(options, *spec) for spec in (*random, *known)]


def _cell(options: Options, problem: str, dim: int, count: int, states: int) -> Cell:
    """Bound the memory of a cell: (nodes, states, d, d) sensitivities, (states, K, d) evaluations."""
    states = max(32, min(states, 2**17 // dim**2, 2**20 // (count * dim)))
    per_group = 128 if states >= 128 else 16
    extra = (("dim", dim), ("components", count), ("groups", states // per_group))
    return Cell(
        measure=f"{__name__}:measure",
        factory="toy_models.problems.zoo:subject",
        problem=problem,
        path="several",
        samples=per_group,
        seed=options.seed,
        extra=extra,
    )


def measure(cell: Cell) -> pd.DataFrame:
    """Return a row per state and estimator of a cell's groups."""
    groups = groups_of(cell)
    frame = pd.concat(measure_groups(groups, truths(groups), FIRST), ignore_index=True)
    for name, value in (("problem", cell.problem), ("seed", cell.seed), *cell.extra[:2]):
        frame.insert(0, name, value)
    return frame


def groups_of(cell: Cell) -> Groups:
    """Draw a cell's mixtures and states with its generator, which the seed and the problem's name set."""
    generator, extra = cell.generator(), dict(cell.extra)
    if cell.problem in zoo.PROBLEMS:
        mixtures = [zoo.distribution(zoo.build(cell.problem, zoo.ZOO_PATHS["condot"]()))] * extra["groups"]
    else:
        mixtures = [random_mixture(extra["dim"], extra["components"], generator) for _ in range(extra["groups"])]
    return draw(mixtures, cell.samples, generator)


def measure_groups(groups: Groups, truth: Truth, steps: int) -> list[pd.DataFrame]:
    """Measure the groups that ``steps`` per segment resolve, then the others with twice as many steps.

    With ``FINEST`` steps all remaining groups are measured. States without a reference have no error, and an infinite
    allowance.

    Returns
    -------
    list
        Tables.
    """
    times = groups.t + torch.linspace(0, 1, SEGMENTS + 1, dtype=torch.float64)[:, None] * (1 - groups.t)
    times[-1] = 1.0
    field = StackedMixtures(groups.mixtures)
    coarse, fine = (solve(groups, field, times, n) for n in (steps // 2, steps))
    quadrature = (fine.integral_form - coarse.integral_form).abs()
    done = (_allowance(coarse, fine) + quadrature <= RESOLVED * fine.integral_form).all(1)
    index = torch.nonzero(~done)[:, 0]
    rest = [] if steps >= FINEST or not len(index) else measure_groups(groups.take(~done), truth.take(index), 2 * steps)
    if not rest:
        done[:] = True
    index = torch.nonzero(done)[:, 0]
    if not len(index):
        return rest
    groups, truth, coarse, fine = groups.take(done), truth.take(index), coarse.take(index), fine.take(index)
    return [_greedy(groups, truth, coarse, fine), _end_to_end(groups, times[:, index], truth, coarse, fine), *rest]


def _allowance(coarse: Solved, fine: Solved) -> Tensor:
    """Return the numerical error (M, B) of the gradient on the trajectory."""
    return remainder.norm(fine.gradient - coarse.gradient) + fine.round_off


def _raised(coarse: Tensor, fine: Tensor) -> Tensor:
    """Return a bound (M, B) with the numerical error of its integral added."""
    return fine + _quadrature((fine - coarse).abs(), fine)


def _quadrature(change: Tensor, bound: Tensor) -> Tensor:
    """Estimate the numerical error of an integral from its change between two step sizes.

    Two step sizes can agree by chance in one state, but not in all states of a group, so the largest change relative to
    the bound is used for each of the group's states.

    Returns
    -------
    Tensor
        (M, B).
    """
    tiny = torch.finfo(bound.dtype).tiny
    return bound * (change / bound.clamp_min(tiny)).amax(-1, keepdim=True)


def _table(groups: Groups, size: Tensor, columns: dict[str, Tensor], **named: Any) -> pd.DataFrame:
    """Return a row per state of (M, B) columns, divided by the ideal gradient's norm, ``size``."""
    count, batch = size.shape
    zeta = groups.per_path("zeta", groups.t)
    frame = pd.DataFrame({"path": np.repeat(groups.names, batch), **named})
    for name, value in (("t", groups.t), ("zeta", zeta)):
        frame[name] = value.repeat_interleave(batch).numpy()
    for name, value in columns.items():
        frame[name] = (value / size).reshape(count * batch).numpy()
    return frame


def _greedy(groups: Groups, truth: Truth, coarse: Solved, fine: Solved) -> pd.DataFrame:
    """Measure the greedy estimator, its three bounds, the identity behind them and the leading-term estimate."""
    estimates = [ESTIMATORS["greedy"](flow, loss, x, t) for flow, t, x, loss in groups]
    leading = torch.stack([leading_term(flow, loss, x, t) for flow, t, x, loss in groups])
    gradient, endpoint = (torch.stack([getattr(e, name) for e in estimates]) for name in ("gradient", "endpoint"))
    alpha = groups.per_path("alpha", groups.t)[:, None]
    missing = truth.gradient - gradient
    cotangent_norm = remainder.norm(endpoint - groups.target)
    field = StackedMixtures(groups.mixtures)
    prior = a_priori(field, groups.x / alpha[..., None], groups.per_path("zeta", groups.t), cotangent_norm, 1.0) / alpha
    columns = {
        "error": remainder.norm(missing),
        "allowance": truth.error + _allowance(coarse, fine),
        "trivial": remainder.norm(gradient) + remainder.norm(truth.gradient),
        "a_priori": prior,
        "sup_form": _raised(coarse.sup_form, fine.sup_form),
        "integral_form": _raised(coarse.integral_form, fine.integral_form),
        "leading_term": remainder.norm(leading),
        "leading_term_miss": remainder.norm(leading - missing),
    }
    columns |= _identity(groups, truth, coarse, fine)
    return _table(groups, remainder.norm(fine.gradient), columns, estimator="greedy")


def _identity(groups: Groups, truth: Truth, coarse: Solved, fine: Solved) -> dict[str, Tensor]:
    """Compute the residuals of both integral identities of D1, and their numerical errors.

    One identity is that of the gradients, for the loss gradient at the true endpoint; the other is that of the
    endpoints, as it enters a bound. It uses the trajectory's own end, which does not depend on the second derivative.

    Returns
    -------
    dict
        Residuals and errors (M, B).
    """
    cotangents = truth.endpoint - groups.target
    parts = [_target(flow, x, t, v) for (flow, t, x, _), v in zip(groups, cotangents, strict=True)]
    predicted, greedy = (torch.stack(part) for part in zip(*parts, strict=True))
    missed = fine.trajectory.end - predicted - fine.moved, truth.gradient - greedy - fine.pulled_back
    rounded = SAFETY * EPS * remainder.norm(fine.trajectory.end)
    end = remainder.norm(fine.trajectory.end - coarse.trajectory.end) + rounded
    change = fine.weight * remainder.norm(fine.moved - coarse.moved)
    change = _quadrature(change + remainder.norm(fine.pulled_back - coarse.pulled_back), fine.integral_form)
    return {
        "identity_gap": fine.weight * remainder.norm(missed[0]) + remainder.norm(missed[1]),
        "identity_allowance": change + fine.weight * end + truth.error + _allowance(coarse, fine),
    }


def _target(flow: Flow, x: Tensor, t: float, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return x1hat and (D x1hat)^T v."""
    time = torch.tensor(t, dtype=torch.float64)
    prediction, pull = flow.predict_vjp(x, time, flow.path.readout("target", time))
    return prediction, pull(v)


def _end_to_end(groups: Groups, times: Tensor, truth: Truth, coarse: Solved, fine: Solved) -> pd.DataFrame:
    """Measure n-step end-to-end gradients, their two bounds and the estimate by step doubling."""
    n = min(JUDGED, groups.x.shape[1])
    groups = Groups(groups.mixtures, groups.names, groups.paths, groups.t, groups.x[:, :n], groups.target[:, :n])
    truth, allowance = truth.first(n), truth.error[:, :n] + _allowance(coarse, fine)[:, :n]
    exact = _exact_steps(groups, times, fine.trajectory)
    growth = [_growth(groups, times, s.trajectory) for s in (coarse, fine)]
    size = remainder.norm(fine.gradient[:, :n])
    tables = []
    for solver in SOLVERS:
        judged = {steps: _defects(groups, times, *exact, solver, steps) for steps in STEPS}
        power = 2.0 ** solvers.SOLVERS[solver].order
        for steps, (gradient, defect) in judged.items():
            stride = SEGMENTS // steps
            factors = [[f[::stride].exp() for f in pair] for pair in growth]
            log_norm, gronwall = (_inflated(c, f, defect) for c, f in zip(*factors, strict=True))
            columns = {
                "error": remainder.norm(gradient - truth.gradient),
                "allowance": allowance,
                "trivial": remainder.norm(gradient) + remainder.norm(truth.gradient),
                "gronwall": gronwall,
                "logarithmic_norm": log_norm,
            }
            if 2 * steps in judged:
                estimate = (judged[2 * steps][0] - gradient) * power / (power - 1)
                columns["step_doubling"] = remainder.norm(estimate)
            tables.append(_table(groups, size, columns, estimator="end_to_end", solver=solver, steps=steps))
    return pd.concat(tables, ignore_index=True)


def _inflated(coarse: Tensor, fine: Tensor, defect: Tensor) -> Tensor:
    """Return the bound with growth factors (n, M, B), their numerical error added; infinite where they overflow."""
    return ((fine + (fine - coarse).abs()) * defect).sum(0).nan_to_num(torch.inf, torch.inf)


def _exact_steps(groups: Groups, times: Tensor, path: remainder.Trajectory) -> tuple[Tensor, Tensor]:
    """Return states (C + 1, M, B, d) and Jacobians (C, M, B, d, d) in x of the exact flow between checkpoints."""
    n, alpha = groups.x.shape[1], groups.per_path("alpha", times)[..., None, None]
    states = alpha * torch.cat([path.state[:, 0], path.state[-1:, -1]])[:, :, :n]
    return states, (alpha[1:] / alpha[:-1])[..., None] * path.jacobian[:, -1, :, :n]


def _growth(groups: Groups, times: Tensor, path: remainder.Trajectory) -> tuple[Tensor, Tensor]:
    """Return the logarithms of both bounds' growth factors from the start to each checkpoint, (C, M, B)."""
    n = groups.x.shape[1]
    eigenvalues = stability.spectrum(path.source_jacobian[:, :, :, :n])
    alpha = groups.per_path("alpha", times)
    log_norm = (alpha[:-1] / alpha[0]).log()[..., None] + stability.logarithmic_norm(path.weight, eigenvalues)
    largest = [stability.lipschitz(p, path.z[:, :-1, i], eigenvalues[:, :-1, i]) for i, p in enumerate(groups.paths)]
    return log_norm, (times[:-1] - times[0])[..., None] * torch.stack(largest)


def _defects(
    groups: Groups, times: Tensor, states: Tensor, jacobians: Tensor, solver: str, steps: int
) -> tuple[Tensor, Tensor]:
    """Return the estimator's gradients (M, B, d) and the norms of the steps' defects (n, M, B)."""
    stride = SEGMENTS // steps
    parts = []
    for i, (flow, _, _, loss) in enumerate(groups):
        jacobian = stability.compose(jacobians[:, i], stride)
        parts.append(stability.defects(flow, loss, states[::stride, i], times[::stride, i], jacobian, solver))
    gradients, defects = zip(*parts, strict=True)
    return torch.stack(gradients), torch.stack(defects, 1)


derive = judge
