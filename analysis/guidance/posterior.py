r"""Posterior guidance: a solve of the flow whose states are moved down the guidance gradient at every step.

.. math:: x \leftarrow x - \eta_i\, g(x, t_i) \quad\text{k times, then}\quad x \leftarrow \phi_{t_i, t_{i+1}}(x),

or, with ``when="with"``, :math:`x \leftarrow \phi_{t_i, t_{i+1}}(x) - \eta_i g(x, t_i)`. With the greedy gradient and
the rule "dps" it is DPS (arXiv 2209.14687) as a deterministic sampler; g is that of any estimator
in ``analysis.gradients``, or of the dial (``analysis.guidance.dial``). As steps grow, "likelihood" turns both into
:math:`\dot x = u - \text{scale}\,\lambda_t\, g` (``analysis.guidance.likelihood``).

DPS was compared with its authors' code (github.com/DPS2022/diffusion-posterior-sampling): it subtracts the gradient of
the residual's norm, at the state before the step, from the state after it, which is ``when="with"``. There the steps
are those of DDPM, with noise, and the norm is taken over the batch; here over each sample.
"""

from __future__ import annotations

from torch import Tensor

from analysis import checks, solvers
from analysis.flow import Flow
from analysis.gradients.registry import with_value
from analysis.guidance.dial import Choice, rule_of
from analysis.guidance.likelihood import informed_time
from analysis.guidance.oracle import whole_grid
from analysis.guidance.registry import DivergenceMonitor, register
from analysis.guidance.step_sizes import RULES, Move
from analysis.guidance.windows import WHOLE, Window, inside
from analysis.losses import Loss
from analysis.norms import widened
from analysis.paths import expand

WHEN = ("before", "with")


@register("posterior_guidance")
def posterior_guidance(
    flow: Flow,
    loss: Loss,
    x0: Tensor,
    monitor: DivergenceMonitor,
    *,
    steps: int,
    scale: float,
    rule: str = "likelihood",
    lookahead: Choice = "greedy",
    inner: int = 1,
    when: str = "before",
    solver: str = "ddim",
    grid: str | Tensor = "t",
    window: Window = WHOLE,
) -> Tensor:
    """Guide a solve from x0 (B, *event) at time 0 to time 1 by per-step updates.

    Where alpha = 0, at time 0 of most paths, greedy's gradient is 0 to round-off; gradients are taken slightly later,
    as in ``likelihood``.

    Parameters
    ----------
    steps, solver, grid : the solve: a one-step method, and times as in ``solvers.grids.time_grid``
    scale, rule : the step size, at least 0, and its meaning: a name in ``step_sizes.RULES``; 0 is the unguided solve
    lookahead : the estimator of g: a name in ``LADDER`` or ``ESTIMATORS``, or (name, options), as in
        ``("adaptive", {"tolerance": 0.1})``
    inner : updates per step; more than one only ``when="before"``
    window : times (start, end): steps that begin in [start, end) have updates, the others are those of the flow
    when : "before" each step, or "with" it: the gradient is then that at the step's start

    Returns
    -------
    Tensor
        Samples (B, *event); a call returns a ``Sample``.

    Raises
    ------
    ValueError
        For an option with a value that is not allowed; the message names it and lists what is.
    """
    update, when = RULES[checks.known("rule", rule, RULES)], checks.known("when", when, WHEN)
    scale = checks.at_least("scale", scale)
    inner, steps = checks.steps(inner, "inner"), checks.steps(steps)
    if inner > 1 and when == "with":
        raise ValueError(f"inner must be 1 where updates are made with the step, got {inner}")
    checks.known("solver", solver, solvers.SOLVERS)
    gradient, options = rule_of(lookahead)
    times = whole_grid(flow, steps, grid)
    guided = inside(times[:-1], window)
    stages, x = solvers.plan(solver, flow.path, times), x0

    def moved(x: Tensor, i: int) -> Tensor:
        result = gradient(flow, loss, x, informed_time(flow.path, times[i], x.dtype), **options)
        g, _, value = with_value(result, loss)
        size = update(Move(g, value, flow.path, times[i], times[i + 1], scale, inner))
        return -(expand(size, widened(g)) * widened(g)).to(x)

    for i in range(steps):
        active = bool(scale) and guided[i]
        change = moved(x, i) if active else 0 * x
        if when == "with":
            x = monitor.accept(solvers.step(flow, x, stages[i]) + change, x, i)
            continue
        y = monitor.accept(x + change, x, i)
        for _ in range(1, inner if active else 1):
            y = monitor.accept(y + moved(y, i), y, i)
        x = monitor.accept(solvers.step(flow, y, stages[i]), y, i)
    return x
