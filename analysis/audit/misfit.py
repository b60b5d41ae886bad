r"""How badly a model, read in some way, predicts the data: squared error relative to a straight line's.

At states :math:`X_t = \alpha X_1 + \sigma X_0` of the data the target prediction is the mean of :math:`X_1`: of all
functions of the state it errs least. The *misfit* of a model is its squared error, relative to that of the best
straight line in the state (a mean and a gain), at five noise levels :math:`\zeta` from a quarter of the data's standard
deviation to four times it, and the geometric mean of these. At equal :math:`\zeta`, of the same samples and noise, the
least error does not depend on the path: ways to read a model can be compared, and the true one has the least misfit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis import solvers
from analysis.canonical import CANONICAL
from analysis.flow import END, Flow, PredictionFlow
from analysis.paths import PREDICTIONS, AffinePath, expand

LEVELS = (0.25, 0.5, 1.0, 2.0, 4.0)  # zeta over the data's standard deviation
STEPS = 32  # of the short solve
Taken = tuple[str, bool]  # what a function is taken to predict, and whether the sign of its values is changed


@dataclass(frozen=True)
class Moments:
    """Mean over all coordinates, and root of the mean variance of one."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, x: Tensor) -> Moments:
        """Return those of samples (n, *event)."""
        return cls(float(x.double().mean()), float(x.double().var(0).mean().sqrt()))


def degrees(x1: Tensor) -> float:
    """Return about how many free numbers the variance of samples (n, *event) is an average of: its degrees of freedom.

    The standard error of the variance, relative to it, is about the root of two over their number.

    Returns
    -------
    float
        n - 1 for each effective dimension, (tr C)^2 / tr C^2 of the samples' covariance C, of which few samples show
        too few.
    """
    centred = (x1 - x1.mean(0)).flatten(1).double()
    products = centred @ centred.T
    return float((len(x1) - 1) * products.trace() ** 2 / products.square().sum())


def misfits(flow: PredictionFlow, path: AffinePath, turned: bool, x1: Tensor, x0: Tensor) -> Mapping[Taken, float]:
    """Return the misfit of a model's function on a path, by what it is taken to predict and the sign of its values.

    Parameters
    ----------
    flow : whose function is asked, at its own kind of times
    path, turned : the path that it is read on, and whether time is turned
    x1, x0 : samples of the data and noise (n, *event)

    Returns
    -------
    Mapping[tuple[str, bool], float]
        The misfit by prediction, and by whether the sign is changed; infinite where the values are not finite.
    """
    logs: dict[Taken, float] = dict.fromkeys(itertools.product(PREDICTIONS, (False, True)), 0.0)
    for t, x in _states(path, x1, x0):
        time = (1 - t if turned else t).expand(len(x)).to(x.device, flow.time_dtype or x.dtype)
        with torch.no_grad():
            value = flow.function(x.clone(), time)
        for name, flipped in logs:
            target = path.convert(-value if flipped else value, x, t, name, "target")
            logs[name, flipped] += _log_misfit(target, x1, x, path, t) / len(LEVELS)
    return {taken: math.exp(value) for taken, value in logs.items()}


def misfit_of_flow(flow: Flow, x1: Tensor, x0: Tensor) -> float:
    """Return the misfit of any flow on its own path."""
    logs = [_log_misfit(flow.target(x, t), x1, x, flow.path, t) for t, x in _states(flow.path, x1, x0)]
    return math.exp(sum(logs) / len(logs))


def _states(path: AffinePath, x1: Tensor, x0: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the time and the states at each noise level."""
    deviation = Moments.of(x1).deviation
    times = [path.time_from_zeta(torch.tensor(level * deviation, dtype=torch.float64)) for level in LEVELS]
    return [(t, expand(path.alpha(t), x1) * x1 + expand(path.sigma(t), x0) * x0) for t in times]


def _log_misfit(target: Tensor, x1: Tensor, x: Tensor, path: AffinePath, t: Tensor) -> float:
    """Return the log of the squared error of a target prediction relative to that of the best straight line."""
    target, x1, x = (v.double() for v in (target, x1, x))
    alpha, sigma = (float(c) for c in (path.alpha(t), path.sigma(t)))
    mean, variance = x1.mean(0), float(x1.var(0).mean())
    line = mean + alpha * variance / (alpha**2 * variance + sigma**2) * (x - alpha * mean)
    error = float((target - x1).square().mean() / (line - x1).square().mean())
    tiny = torch.finfo(torch.float64).tiny
    return math.log(max(error, tiny)) if error < math.inf else math.inf


def reaches(path: AffinePath, x1: Tensor) -> bool:
    """Return whether a path has all noise levels at which samples of the data (n, *event) are looked at."""
    return bool(path.zeta(0.0) >= LEVELS[-1] * Moments.of(x1).deviation)


def short_solve(flow: Flow, x0: Tensor, steps: int = STEPS) -> Tensor:
    """Return samples (n, *event) of a short solve from noise, in equal steps of the time in which paths are regular.

    It starts a little after noise, where every prediction determines the velocity: on the polynomial path the velocity
    itself vanishes at t = 0.

    Returns
    -------
    Tensor
        The samples; NaN and infinity are left in them.

    Raises
    ------
    ValueError
        Where the prediction does not determine the velocity at a time of the solve.
    """
    along = flow.with_path(CANONICAL)
    ends = torch.tensor(END, dtype=torch.float64), torch.ones((), dtype=torch.float64)
    return solvers.solve(along, x0, solvers.plan("ddim", along.path, solvers.uniform_grid(*ends, steps)))
