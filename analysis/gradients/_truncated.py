r"""Truncated backpropagation: n solver steps forward, and back through the last k of them only.

With the steps' maps :math:`\Phi = \phi_n \circ \dots \circ \phi_1` from t to 1,

.. math:: g_k = D\phi_{n-k+1}^T \cdots D\phi_n^T\, \nabla L(\Phi(x)) \quad\text{in place of}\quad
          g = D\phi_1^T \cdots D\phi_n^T\, \nabla L(\Phi(x)),

that is, the Jacobian of the first n - k steps, from t to s = t_{n-k}, replaced by the identity. Source: DRaFT-K (Clark
et al., arXiv 2309.17400), which truncates the gradient in the network's weights like this; here it is the gradient in
the state. k = n is the end-to-end gradient, and k = 0 would be the identity-Jacobian estimator with n steps.

No code of the authors was found. The truncation was compared with public reimplementations. Where the first n - k steps
run without a graph, as in one of DRaFT-K, it is this one. AlignProp (github.com/mihirp1998/AlignProp) detaches the
network's prediction alone, which for a gradient in the state would leave the sampler's linear factor, such as
alpha_s/alpha_t, in place of the identity; in the weights the two agree.

The implied scale: for Gaussian data the exact Jacobian of the omitted steps is, along an eigen-direction of variance
:math:`\lambda`,

.. math:: D\Phi_{t,s} = \sqrt{(\alpha_s^2\lambda + \sigma_s^2) / (\alpha_t^2\lambda + \sigma_t^2)},

between sigma_s/sigma_t (thin directions) and alpha_s/alpha_t (wide ones). The identity is therefore right for data of
unit variance on a variance-preserving path, for wide directions on a variance-exploding one, and in general wrong by
this factor: on CondOT, early gradients of thin directions come out too large by up to 1/sigma_t.
"""

from __future__ import annotations

from torch import Tensor

from analysis import checks, solvers
from analysis.flow import Flow, Pullback
from analysis.gradients._end_to_end import end_to_end
from analysis.gradients.registry import register
from analysis.losses import Loss, value_and_gradient
from analysis.solvers.rows import of_rows, on_rows

VARIANTS = [{"steps": 16, "keep": keep, "solver": solver} for solver in ("euler", "midpoint") for keep in (1, 4)]


def check_keep(keep: int, steps: int) -> int:
    """Return ``keep``, an integer from 1 to ``steps``; raises ``ValueError`` for any other."""
    if checks.steps(keep, "keep") > checks.steps(steps):
        raise ValueError(f"keep must be at most steps = {steps}, got {keep}")
    return int(keep)


@register("truncated", VARIANTS)
def truncated(
    flow: Flow, loss: Loss, x: Tensor, t: Tensor, *, steps: int, keep: int, solver: str = "euler"
) -> tuple[Tensor, ...]:
    """Differentiate through the last ``keep`` of ``steps`` solver steps from t to 1.

    It costs the evaluations of ``steps`` steps and the VJPs of ``keep``. A multistep method loses its history where the
    gradient stops.

    Returns
    -------
    tuple
        Gradient and endpoint (B, *event), and the loss there (B,).

    Raises
    ------
    ValueError
        For ``keep`` below 1 or above ``steps``, and as ``end_to_end`` does.
    """
    keep, steps = check_keep(keep, steps), int(steps)
    checks.known("solver", solver, solvers.SOLVERS)
    if keep == steps:
        return end_to_end.rule(flow, loss, x, t, steps=steps, solver=solver)
    cut = steps - keep

    def solved(flow: Flow, x: Tensor, rows: Tensor | None) -> tuple[Tensor, Pullback]:
        grid = solvers.uniform_grid(of_rows(t, rows), t.new_ones(()), steps)
        state = solvers.solve(flow, x, solvers.plan(solver, flow.path, grid[: cut + 1]))
        return solvers.solve_vjp(flow, state, solvers.plan(solver, flow.path, grid[cut:]))

    endpoint, pull = on_rows(flow, x, t < 1, solved)
    value, loss_gradient = value_and_gradient(loss, endpoint)
    return pull(loss_gradient), endpoint, value
