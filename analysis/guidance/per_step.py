r"""Per-step optimisation: at every step of a solve the state is moved several times by an optimiser.

.. math:: x \leftarrow \mathrm{update}(x, g(x, t_i)) \quad\text{k times, then}\quad x \leftarrow \phi_{t_i, t_{i+1}}(x).

Unlike posterior guidance (``analysis.guidance.posterior``), whose moves follow from the posterior's ODE or from a step
rule, the moves of a step minimise the loss with a learning rate, as the inner loops of property-guided generation do
(arXiv 2502.08006, section 5). The optimiser is reset at every step. MGPS (arXiv 2410.09945), which fits the law of a
later state in this manner, is ``analysis.guidance.midpoint``.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from analysis import checks, solvers
from analysis.flow import Flow
from analysis.guidance.dial import Choice, rule_of
from analysis.guidance.likelihood import informed_time
from analysis.guidance.optimisers import optimiser as make
from analysis.guidance.oracle import whole_grid
from analysis.guidance.registry import DivergenceMonitor, register
from analysis.guidance.windows import WHOLE, Window, inside
from analysis.losses import Loss
from analysis.paths import AffinePath

SCHEDULES: dict[str, Callable[[AffinePath, Tensor], float]] = {
    "constant": lambda path, t: 1.0,
    "sigma": lambda path, t: float(path.sigma(t)),
}
"""How the learning rate changes over time, as a factor."""


@register("optimise_steps")
def optimise_steps(
    flow: Flow,
    loss: Loss,
    x0: Tensor,
    monitor: DivergenceMonitor,
    *,
    steps: int,
    learning_rate: float,
    inner: int = 4,
    optimiser: str = "adam",
    gradient: Choice = "greedy",
    schedule: str = "constant",
    solver: str = "ddim",
    grid: str | Tensor = "t",
    window: Window = WHOLE,
) -> Tensor:
    """Solve from x0 (B, *event) at time 0 to time 1, with ``inner`` moves of an optimiser before every step.

    Where alpha = 0, gradients are taken slightly later, as in ``posterior_guidance``.

    Parameters
    ----------
    steps, solver, grid : the solve: a one-step method, and times as in ``solvers.grids.time_grid``
    learning_rate, optimiser : as in ``optimise_source``; "normalised" moves by the rate per coordinate
    inner : moves per step
    gradient : the estimator: a name in ``LADDER`` or ``ESTIMATORS``, or (name, options)
    window : times (start, end), as in ``posterior_guidance``
    schedule : "constant", or "sigma": the learning rate times sigma_t

    Returns
    -------
    Tensor
        Samples (B, *event); a call returns a ``Sample``.

    Raises
    ------
    ValueError
        For an option with a value that is not allowed; the message names it and lists what is.
    """
    factor = SCHEDULES[checks.known("schedule", schedule, SCHEDULES)]
    checks.known("solver", solver, solvers.SOLVERS)
    inner = checks.steps(inner, "inner")
    make(optimiser, x0, learning_rate)  # so that a wrong one is refused before any work
    rule, options = rule_of(gradient, "gradient")
    times = whole_grid(flow, steps, grid)
    guided = inside(times[:-1], window)
    plan, x = solvers.plan(solver, flow.path, times), x0
    for i in range(steps):
        t = informed_time(flow.path, times[i], x.dtype)
        update = make(optimiser, x, learning_rate * factor(flow.path, times[i]))
        for _ in range(inner if guided[i] else 0):
            x = monitor.accept(update(x, rule(flow, loss, x, t, **options)[0]), x, i)
        x = monitor.accept(solvers.step(flow, x, plan[i]), x, i)
    return x
