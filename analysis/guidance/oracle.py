r"""Samplers that follow a given likelihood score; with the exact score they sample the exact posterior.

``oracle_ode`` solves the flow of p(x_1 | y) (``analysis.guidance.likelihood``). ``oracle_sde`` adds noise with the same
marginals,

.. math:: dx = \bigl(u_y + \tfrac12 \epsilon^2 s_y\bigr) dt + \epsilon\, dW, \qquad
          \epsilon^2 = 2 \kappa \lambda_t, \quad \lambda_t = \sigma^2 (\alpha'/\alpha - \sigma'/\sigma),

with :math:`u_y, s_y` the velocity and the score of the posterior; churn :math:`\kappa = 1` is the reverse-time SDE of
the path, 0 the ODE. It is discretised in the exponential form of Song et al. (2021, arXiv 2010.02502, equation 12),

.. math:: x_s = \alpha_s \hat x_1 + \sqrt{\sigma_s^2 - \varsigma^2}\, \hat x_0 + \varsigma z, \qquad
          \varsigma^2 = \kappa\, \sigma_s^2 (1 - \gamma_t^2/\gamma_s^2),

which is Euler-Maruyama with the linear part integrated exactly: finite at both ends of time, where lambda is not.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from analysis import checks, solvers
from analysis.flow import Flow
from analysis.guidance.likelihood import GuidedFlow, Score
from analysis.guidance.registry import DivergenceMonitor, register
from analysis.losses import Loss
from analysis.solvers.grids import time_grid


def whole_grid(flow: Flow, steps: int, grid: str | Tensor) -> Tensor:
    """Return the times (steps + 1,) from 0 to 1 of ``grid``, as in ``solvers.grids.time_grid``."""
    ends = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    return time_grid(grid, flow.path, *ends, checks.steps(steps))


@register("oracle_ode")
def oracle_ode(
    flow: Flow,
    loss: Loss,
    x0: Tensor,
    monitor: DivergenceMonitor,
    *,
    score: Score,
    steps: int,
    solver: str = "ddim",
    grid: str | Tensor = "t",
) -> Tensor:
    """Solve the ODE of the flow that ``score`` guides, from x0 (B, *event) at time 0 to time 1.

    ``score(x, t)`` is grad log p(y | x_t), (B, *event), for a time (); ``solver`` is a one-step method.

    Returns
    -------
    Tensor
        Samples (B, *event); a call returns a ``Sample``.

    Raises
    ------
    ValueError
        For steps, a solver, a grid or a score that are not allowed.
    """
    checks.known("solver", solver, solvers.SOLVERS)
    guided, x, steps = GuidedFlow(flow, score), x0, checks.steps(steps)
    stages = solvers.plan(solver, flow.path, whole_grid(flow, steps, grid))
    for i in range(steps):
        x = monitor.accept(solvers.step(guided, x, stages[i]), x, i)
    return x


@register("oracle_sde")
def oracle_sde(
    flow: Flow,
    loss: Loss,
    x0: Tensor,
    monitor: DivergenceMonitor,
    *,
    score: Score,
    steps: int,
    generator: torch.Generator,
    churn: float = 1.0,
    grid: str | Tensor = "t",
) -> Tensor:
    """Solve the SDE with the marginals of the flow that ``score`` guides; first order in the steps.

    ``generator`` draws the noise; ``churn`` in [0, 1] is its share of the reverse-time SDE's noise, with 0 for DDIM.

    Returns
    -------
    Tensor
        Samples (B, *event); a call returns a ``Sample``.

    Raises
    ------
    TypeError
        For a generator that is not one of the CPU.
    ValueError
        For a churn outside [0, 1], and steps or a grid that are not allowed.
    """
    generator, churn = checks.generator(generator), checks.share("churn", churn)
    guided, path, x = GuidedFlow(flow, score), flow.path, x0
    times = whole_grid(flow, steps, grid)
    for i, (t, s) in enumerate(itertools.pairwise(times)):
        # gamma_t/gamma_s, without the infinite gamma_s at the end
        ratio = path.alpha(t) * path.sigma(s) / (path.sigma(t) * path.alpha(s))
        noise = churn**0.5 * path.sigma(s) * (1 - ratio**2).clamp_min(0).sqrt()
        source = (path.sigma(s) ** 2 - noise**2).clamp_min(0).sqrt()
        z = torch.randn(x.shape, dtype=torch.float64, generator=generator).to(x)
        moved = guided.predict(x, t, path.combination(path.alpha(s), source, t)) + noise.to(x) * z
        x = monitor.accept(moved, x, i)
    return x
