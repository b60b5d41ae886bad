r"""Lookahead: n solver steps from t to a horizon s, then a projection, :math:`L(\hat x_1(\Phi^n_{t,s}(x), s))`.

It interpolates between the two families of arXiv 2502.08006: s = t is the greedy gradient, s = 1 the end-to-end one.
The gradient is that of the discrete map, by its exact discrete adjoint.
"""

from __future__ import annotations

from torch import Tensor

from analysis import checks, solvers
from analysis.flow import Flow, Pullback
from analysis.gradients.registry import register
from analysis.losses import Loss, value_and_gradient
from analysis.solvers.checkpointing import STRATEGIES, differentiate, reversible
from analysis.solvers.grids import GRIDS, time_grid
from analysis.solvers.rows import of_rows, on_rows

VARIANTS = [
    {"horizon_fraction": fraction, "steps": steps, "solver": solver}
    for solver in ("euler", "midpoint", "ddim")
    for steps in (1, 2, 4, 8)
    for fraction in (0.5, 0.8)
]


SLOTS = 4  # states that "recursive" keeps, unless it is told


def check_horizon(horizon: Tensor | float, t: Tensor, x: Tensor) -> Tensor:
    """Return ``horizon`` as a tensor like t, in [t, 1]; raises ``ValueError`` for one before t."""
    horizon = checks.time(horizon, (x.shape[0],), x.device, "horizon")
    if bool((horizon < t).any()):
        raise ValueError(f"horizon must not lie before t; got a horizon of {float(horizon.min()):.6g}")
    return horizon


def project(flow: Flow, x: Tensor, s: Tensor) -> tuple[Tensor, Pullback]:
    """Return the target prediction at (x, s) and its pullback; where s = 1 the state is the sample itself."""

    def predicted(flow: Flow, x: Tensor, rows: Tensor | None) -> tuple[Tensor, Pullback]:
        time = of_rows(s, rows)
        return flow.predict_vjp(x, time, flow.path.readout("target", time))

    return on_rows(flow, x, s < 1, predicted)


def _check_memory(memory: str | None, slots: int | None) -> None:
    """Raise ``ValueError`` for an unknown checkpointing strategy, and for slots that it would not use."""
    if memory is not None:
        checks.known("memory", memory, STRATEGIES)
    if slots is not None and (checks.count("slots", slots) and memory != "recursive"):
        raise ValueError(f"slots must be left out unless memory is 'recursive', got {slots} and memory = {memory!r}")


@register("lookahead", VARIANTS)
def lookahead(
    flow: Flow,
    loss: Loss,
    x: Tensor,
    t: Tensor,
    *,
    steps: int = 1,
    solver: str = "euler",
    horizon: Tensor | float | None = None,
    horizon_fraction: float | None = None,
    grid: str | Tensor = "t",
    memory: str | None = None,
    slots: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Differentiate the loss of the target prediction after ``steps`` solver steps to ``horizon``.

    The horizon is a time in [t, 1], a float or (B,), or, with ``horizon_fraction`` f in [0, 1], t + f (1 - t). ``grid``
    is as in ``solvers.grids.time_grid``. ``memory`` is one of ``solvers.checkpointing.STRATEGIES``, or ``None`` for the
    flow's own; ``slots``, by default 4, is the number of states that "recursive" stores.

    Returns
    -------
    tuple
        Gradient and endpoint (B, *event), and the loss there (B,).

    Raises
    ------
    ValueError
        For a value of an option that is not allowed, and for an option that would be ignored: ``slots`` without
        ``memory="recursive"``, and times in ``grid`` where every horizon is t, so that no step is taken.
    """
    if (horizon is None) == (horizon_fraction is None):
        raise ValueError("horizon or horizon_fraction must be given, and not both")
    if horizon_fraction is not None:
        horizon = t + checks.share("horizon_fraction", horizon_fraction) * (1 - t)
    assert horizon is not None
    horizon = check_horizon(horizon, t, x)
    steps = checks.steps(steps)
    checks.known("solver", solver, solvers.SOLVERS)
    _check_memory(memory, slots)
    grid = checks.known("grid", grid, GRIDS) if isinstance(grid, str) else checks.tensor(grid, "grid")
    if not isinstance(grid, str) and not bool((horizon > t).any()):
        raise ValueError("grid must be a name where every horizon is t: no step is taken there")

    def solved(flow: Flow, x: Tensor, rows: Tensor | None) -> tuple[Tensor, Pullback]:
        given = grid if rows is None or isinstance(grid, str) or grid.ndim == 1 else grid[:, rows]
        times = time_grid(given, flow.path, of_rows(t, rows), of_rows(horizon, rows), steps)
        plan = solvers.plan(solver, flow.path, times)
        if memory == "reversible":
            return reversible(flow, x, plan, solvers.plan(solver, flow.path, times.flip(0)))
        return differentiate(flow, x, plan, memory, slots or SLOTS)

    state, pull_back = on_rows(flow, x, horizon > t, solved)
    endpoint, pull = project(flow, state, horizon)
    value, loss_gradient = value_and_gradient(loss, endpoint)
    return pull_back(pull(loss_gradient)), endpoint, value
