"""End-to-end guidance: the gradient through a whole ODE solve from t to 1 (discretise, then optimise)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from analysis.flow import Flow
from analysis.gradients._lookahead import lookahead
from analysis.gradients.registry import register
from analysis.losses import Loss

VARIANTS = [
    {"steps": steps, "solver": solver}
    for solver in ("euler", "midpoint", "heun", "rk4", "ddim")
    for steps in (1, 2, 4, 8, 16, 32)
]


@register("end_to_end", VARIANTS)
def end_to_end(
    flow: Flow, loss: Loss, x: Tensor, t: Tensor, *, steps: int, solver: str = "euler", **options: Any
) -> tuple[Tensor, ...]:
    """Differentiate the loss of the sample at the end of ``steps`` solver steps from t to 1.

    ``options`` are lookahead's ``grid``, ``memory`` and ``slots``.

    Returns
    -------
    tuple
        Gradient and endpoint (B, *event), and the loss there (B,).
    """
    return lookahead.rule(flow, loss, x, t, steps=steps, solver=solver, horizon=1.0, **options)
