r"""Identity-Jacobian guidance: :math:`\nabla L(\hat x_1)`, with the Jacobian of :math:`\hat x_1` in x left out.

No product with the flow's Jacobian is taken, so the cost is that of prediction alone. The published methods differ in
the scale that replaces the missing Jacobian when their update is written as :math:`x_t \leftarrow x_t - \eta g`:

- ``scale="one"``, :math:`g = \nabla L(\hat x_1)`: FlowChef (Patel et al., arXiv 2412.00100), which moves the state of a
  CondOT flow by the gradient at the one-step endpoint :math:`x_t + (1 - t) u = \hat x_1` ("gradient skipping").
- ``scale="alpha"``, :math:`g = \alpha_t \nabla L(\hat x_1)`: MPGD without the projection on an autoencoder's range (He
  et al., arXiv 2311.16424), which moves the prediction, :math:`\hat x_1 - \eta \nabla L`, and forms the state anew with
  the same noise, :math:`x_s = \alpha_s \hat x_1 + \sigma_s \hat x_0`: a shift of :math:`-\eta\alpha_s \nabla L`, here
  with s -> t. MPGD's released code takes eta proportional to 1/alpha_t, which is ``scale="one"`` again.

Both were compared with their authors' code. FlowChef's (github.com/FlowChef/FlowChef) detaches the velocity, as here,
and averages the squared residual over pixels. MPGD's (github.com/KellyYutongHe/mpgd_pytorch) differentiates the
residual's norm and not its square; on faces it normalises the gradient, adds fresh noise at every step, and repeats
some steps. These are matters of the sampler and of the step size.

The omitted Jacobian :math:`D\hat x_1 = (\alpha/\sigma^2) \mathrm{Var}[X_1 | X_t]` tends to I/alpha_1 as t -> 1 where
the data has a density. Both scales are therefore right there on a path with alpha_1 = 1, and nowhere else: at t = 0 on
a path with alpha_0 = 0 the true Jacobian vanishes and ``scale="one"`` does not.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from analysis import checks, solvers
from analysis.flow import Flow, Pullback
from analysis.gradients._lookahead import check_horizon
from analysis.gradients.registry import register
from analysis.losses import Loss, value_and_gradient
from analysis.paths import expand
from analysis.solvers.rows import of_rows, on_rows

SCALES = ("one", "alpha")
VARIANTS: list[dict[str, Any]] = [{}, {"scale": "alpha"}, {"steps": 2}, {"steps": 8}]


def endpoint_after(flow: Flow, x: Tensor, t: Tensor, steps: int, solver: str, horizon: Tensor) -> Tensor:
    """Return the target prediction (B, *event) after ``steps`` solver steps from t to ``horizon``."""

    def solved(flow: Flow, x: Tensor, rows: Tensor | None) -> tuple[Tensor, Pullback]:
        grid = solvers.uniform_grid(of_rows(t, rows), of_rows(horizon, rows), steps)
        return solvers.solve(flow, x, solvers.plan(solver, flow.path, grid)), _no_product

    def predicted(flow: Flow, x: Tensor, rows: Tensor | None) -> tuple[Tensor, Pullback]:
        time = of_rows(horizon, rows)
        return flow.predict(x, time, flow.path.readout("target", time)), _no_product

    return on_rows(flow, on_rows(flow, x, horizon > t, solved)[0], horizon < 1, predicted)[0]


def _no_product(v: Tensor) -> Tensor:
    raise RuntimeError("the identity's estimate takes no product")


@register("identity_jacobian", VARIANTS)
def identity_jacobian(
    flow: Flow,
    loss: Loss,
    x: Tensor,
    t: Tensor,
    *,
    scale: str = "one",
    steps: int | None = None,
    solver: str | None = None,
    horizon: Tensor | float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Take the loss gradient at the target prediction, times 1 or alpha_t, without a VJP.

    With ``steps``, the prediction is that after so many steps of ``solver``, by default Euler's, to ``horizon``, a time
    in [t, 1] or (B,), by default 1.

    Returns
    -------
    tuple
        Gradient and endpoint (B, *event), and the loss there (B,).

    Raises
    ------
    ValueError
        For an unknown value of an option, a horizon before t, and ``solver`` or ``horizon`` without ``steps``, which
        would be ignored.
    """
    checks.known("scale", scale, SCALES)
    method = checks.known("solver", "euler" if solver is None else solver, solvers.SOLVERS)
    if steps is None:
        if solver is not None or horizon is not None:
            raise ValueError("solver and horizon must be left out where steps is not given: no step is taken")
        endpoint = flow.predict(x, t, flow.path.readout("target", t))
    else:
        end = check_horizon(1.0 if horizon is None else horizon, t, x)
        endpoint = endpoint_after(flow, x, t, checks.steps(steps), method, end)
    value, gradient = value_and_gradient(loss, endpoint)
    return gradient if scale == "one" else expand(flow.path.alpha(t), x) * gradient, endpoint, value
