"""The audit of the bounds: random and zoo mixtures, every path, states, times and estimators, all judged.

A cell is a stack of groups, each a mixture on a path at a time; a row is one state and one estimator. Errors and bounds
are relative to the ideal gradient's norm. ``allowance`` is the numerical error of truth and bound, from two step sizes.
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
from analysis.gradients import ESTIMATORS
from analysis.settings import Options
from toy_models.bounds.a_priori import a_priori
from toy_models.bounds.groups import Groups, Solved, draw, solve
from toy_models.bounds.stacked import StackedMixtures
from toy_models.bounds.tightness import RESOLVED, judge
from toy_models.problems import zoo
from toy_models.problems.random_mixtures import random_mixture

SEGMENTS = 8  # of the time left; grids of 2, 4 and 8 steps are among their ends
STEPS = (2, 4, 8)
SOLVERS = ("euler", "midpoint", "heun", "rk4")
FIRST, FINEST = 4, 32  # integration steps per segment
JUDGED = 8  # states of each group on which end-to-end gradients are judged


def cells(options: Options) -> list[Cell]:
    """Return cells of random mixtures by (d, K), and one cell per zoo problem."""
    dims, counts = ((3,), (4,)) if options.quick else ((1, 2, 3, 5, 8, 16, 32, 64), (1, 2, 4, 8, 16, 32))
    random = [(f"random_d{d}_k{k}", d, k, 96 if options.quick else 4096) for d in dims for k in counts]
    flows = {name: zoo.distribution(zoo.build(name, zoo.ZOO_PATHS["condot"]())) for name in zoo.PROBLEMS}
    chosen = {"ring8": 96} if options.quick else dict.fromkeys(zoo.PROBLEMS, 2048)
    known = [(n, flows[n].dim, len(flows[n].weights), states) for n, states in chosen.items()]
    return [_cell(options, *spec) for spec in (*random, *known)]


def _cell(options: Options, problem: str, dim: int, count: int, states: int) -> Cell:
    """Bound the memory of a cell: (nodes, states, d, d) sensitivities, (states, K, d) evaluations."""
    states = max(32, min(states, 2**17 // dim**2, 2**20 // (count * dim)))
    per_group = 128 if states >= 1024 else 16
    extra = (("dim", dim), ("components", count), ("groups", states // per_group))
    return Cell(
        measure="toy_models.experiments.bounds:measure",
        factory="toy_models.problems.zoo:subject",
        problem=problem,
        path="several",
        times=(),
        samples=per_group,
        seed=options.seed,
        extra=extra,
    )


def measure(cell: Cell) -> pd.DataFrame:
    """Return the rows of a cell."""
    generator, extra = cell.generator(), dict(cell.extra)
    if cell.problem in zoo.PROBLEMS:
        mixtures = [zoo.distribution(zoo.build(cell.problem, zoo.ZOO_PATHS["condot"]()))] * extra["groups"]
    else:
        mixtures = [random_mixture(extra["dim"], extra["components"], generator) for _ in range(extra["groups"])]
    frame = pd.concat(_measure(draw(mixtures, cell.samples, generator), FIRST), ignore_index=True)
    for name, value in (("problem", cell.problem), ("seed", cell.seed), *cell.extra[:2]):
        frame.insert(0, name, value)
    return frame


def _measure(groups: Groups, steps: int) -> list[pd.DataFrame]:
    """Measure the groups that ``steps`` per segment resolve, and the others with twice as many, up to ``FINEST``."""
    times = groups.t + torch.linspace(0, 1, SEGMENTS + 1, dtype=torch.float64)[:, None] * (1 - groups.t)
    times[-1] = 1.0
    field = StackedMixtures(groups.mixtures)
    coarse, fine = (solve(groups, field, times, n) for n in (steps // 2, steps))
    done = (_allowance(coarse, fine) + fine.residual <= RESOLVED * fine.integral_form).all(1)
    rest = [] if steps >= FINEST or bool(done.all()) else _measure(groups.take(~done), 2 * steps)
    if not rest:
        done[:] = True
    kept = torch.nonzero(done)[:, 0]
    if not len(kept):
        return rest
    groups, coarse, fine = groups.take(done), coarse.take(kept), fine.take(kept)
    return [_greedy(groups, coarse, fine), _end_to_end(groups, times[:, kept], coarse, fine), *rest]


def _allowance(coarse: Solved, fine: Solved) -> Tensor:
    return remainder.norm(fine.gradient - coarse.gradient) + fine.round_off


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


def _greedy(groups: Groups, coarse: Solved, fine: Solved) -> pd.DataFrame:
    """Measure the greedy estimator and its three bounds and the leading-term estimate."""
    found = [ESTIMATORS["greedy"](flow, loss, x, t) for flow, t, x, loss in groups]
    leading = torch.stack([leading_term(flow, loss, x, t) for flow, t, x, loss in groups])
    gradient, endpoint = (torch.stack([getattr(e, name) for e in found]) for name in ("gradient", "endpoint"))
    alpha = groups.per_path("alpha", groups.t)[:, None]
    missing = fine.gradient - gradient
    slope = remainder.norm(endpoint - groups.target)
    field = StackedMixtures(groups.mixtures)
    prior = a_priori(field, groups.x / alpha[..., None], groups.per_path("zeta", groups.t), slope, 1.0) / alpha
    columns = {
        "error": remainder.norm(missing),
        "allowance": _allowance(coarse, fine),
        "trivial": remainder.norm(gradient) + remainder.norm(fine.gradient),
        "a_priori": prior,
        "sup_form": fine.sup_form + (fine.sup_form - coarse.sup_form).abs(),
        "integral_form": fine.integral_form + fine.residual,
        "leading_term": remainder.norm(leading),
        "leading_term_miss": remainder.norm(leading - missing),
    }
    return _table(groups, remainder.norm(fine.gradient), columns, estimator="greedy")


def _end_to_end(groups: Groups, times: Tensor, coarse: Solved, fine: Solved) -> pd.DataFrame:
    """Measure n-step end-to-end gradients, their two bounds and the estimate by step doubling."""
    n = min(JUDGED, groups.x.shape[1])
    groups = Groups(groups.mixtures, groups.names, groups.paths, groups.t, groups.x[:, :n], groups.target[:, :n])
    truth, allowance = fine.gradient[:, :n], _allowance(coarse, fine)[:, :n]
    exact = _exact_steps(groups, times, fine.trajectory)
    growth = [_growth(groups, times, s.trajectory) for s in (coarse, fine)]
    tables = []
    for solver in SOLVERS:
        found = {steps: _defects(groups, times, *exact, solver, steps) for steps in STEPS}
        power = 2.0 ** solvers.SOLVERS[solver].order
        for steps, (gradient, defect) in found.items():
            stride = SEGMENTS // steps
            factors = [[f[::stride].exp() for f in pair] for pair in growth]
            log_norm, gronwall = (_inflated(c, f, defect) for c, f in zip(*factors, strict=True))
            columns = {
                "error": remainder.norm(gradient - truth),
                "allowance": allowance,
                "trivial": remainder.norm(gradient) + remainder.norm(truth),
                "gronwall": gronwall,
                "logarithmic_norm": log_norm,
            }
            if 2 * steps in found:
                estimate = (found[2 * steps][0] - gradient) * power / (power - 1)
                columns["step_doubling"] = remainder.norm(estimate)
            table = _table(groups, remainder.norm(truth), columns, estimator="end_to_end", solver=solver, steps=steps)
            tables.append(table)
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
    found = []
    for i, (flow, _, _, loss) in enumerate(groups):
        jacobian = stability.compose(jacobians[:, i], stride)
        found.append(stability.defects(flow, loss, states[::stride, i], times[::stride, i], jacobian, solver))
    gradients, defects = zip(*found, strict=True)
    return torch.stack(gradients), torch.stack(defects, 1)


derive = judge
