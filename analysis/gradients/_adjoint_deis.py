r"""AdjointDEIS: the exponential-integrator adjoint (Blasingame & Liu 2024, arXiv 2405.15020), derived for affine paths.

With :math:`\bar x = x/\alpha` the flow is :math:`d\bar x/d\zeta = \hat x_0`: the scale integrates the part linear in x
exactly. The adjoint of :math:`\bar x` is :math:`b = \alpha a` and, as :math:`D_{\bar x} = \alpha D_x`,

.. math:: \frac{db}{d\zeta} = -V, \qquad V = \alpha\, D\hat x_0(x_s, s)^T b,

which is, with :math:`d\zeta = -e^{-\lambda} d\lambda` and :math:`\lambda = \log(\alpha/\sigma)`, the paper's integral
with exponential weights (equation 2.8; V is its V). A step back from r to s < r integrates the weight exactly and V by
its Taylor expansion at r, whose derivative comes from the previous step, made from q > r. A step of the forward solve
from r to s > r, made after one from q < r, has weights of the same form:

.. math:: b_s = b_r + (\zeta_r - \zeta_s) [V_r + w (V_r - V_q)], \qquad
          \bar x_s = \bar x_r + (\zeta_s - \zeta_r) [\hat x_0(r) + w (\hat x_0(r) - \hat x_0(q))].

- Order 1, w = 0: AdjointDEIS-1 (equation 2.14), along DDIM.
- Order 2, :math:`w = (\tau_s - \tau_r)/(2 (\tau_r - \tau_q))`. An expansion in log-SNR, :math:`\tau = \lambda`, is
  AdjointDEIS-2M (equation 2.15), along DPM-Solver's multistep method. In zeta, :math:`\tau = \zeta`, both are
  Adams-Bashforth methods of two steps, as in DEIS's rho-AB (Zhang & Chen 2023, arXiv 2204.13902).

A backward solve of order 2 along states of order 1 would be of order 1, so the forward solve has the same order.

**At s = 1**, where sigma vanishes on most paths, zeta is regular, and no step leaves out the end. There
:math:`D\hat x_0 = -\sigma \nabla^2 \log p` vanishes too, so the first step back takes the limit V = 0 without an
evaluation; this makes the method work on a denoiser. Log-SNR is infinite: a w that is infinite or 0/0 counts as 0. On a
grid uniform in t the last steps before s = 1 have lengths :math:`\log(1 + 1/k)` in log-SNR, however many steps there
are, so the error of that expansion is :math:`O(h^2 \log(1/h))` in t; that in zeta is :math:`O(h^2)`. At few steps from
early times the first is often the smaller one. On linear VP, where :math:`\zeta \sim \sqrt{1 - t}`, the last step of
such a grid has length :math:`O(h^{1/2})` in zeta, and both are of order 1.

A single step is thus :math:`\nabla L(\hat x_1)/\alpha_t`: greedy without its Jacobian. Greedy itself is the step with
the Jacobian at the *new* state and the adjoint at the old one (T1b of the theory):
:math:`a_s = D(\alpha_r \hat x_1 + \sigma_r \hat x_0)(x_s, s)^T a_r`, the pullback of the DDIM step.

**At t = 0**, where alpha vanishes on most paths, b has no limit, and the call is refused.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from analysis import checks, solvers
from analysis.flow import Flow
from analysis.gradients.registry import register
from analysis.losses import Loss, value_and_gradient
from analysis.paths import AffinePath, expand

ORDERS = (1, 2)
EXPANSIONS = {"log_snr": AffinePath.log_snr, "zeta": AffinePath.zeta}
VARIANTS: list[dict[str, Any]] = [{"steps": steps, "order": 1} for steps in (4, 16)]
VARIANTS += [{"steps": steps, "order": 2, "expansion": name} for name in EXPANSIONS for steps in (4, 16)]


def weights(path: AffinePath, grid: Tensor, order: int, expansion: str) -> Tensor:
    """Return w for each step of a grid, (steps,) or (steps, B); 0 in the first step and where not finite."""
    lengths = EXPANSIONS[expansion](path, grid).diff(dim=0)
    w = torch.cat([torch.zeros_like(lengths[:1]), lengths[1:] / (2 * lengths[:-1])])
    return w.nan_to_num(0.0, 0.0, 0.0) if order == 2 else torch.zeros_like(w)


def forward_states(flow: Flow, x: Tensor, grid: Tensor, w: Tensor) -> list[Tensor]:
    """Return the states (B, *event) at all times of a grid, by the multistep method with weights w."""
    alpha, zeta = flow.path.alpha(grid), flow.path.zeta(grid)
    scaled, states, before = x / expand(alpha[0], x), [x], torch.zeros_like(x)
    for i in range(len(w)):
        source = flow.predict(states[i], grid[i], flow.path.readout("source", grid[i]))
        scaled = scaled + expand(zeta[i + 1] - zeta[i], x) * (source + expand(w[i], x) * (source - before))
        states.append(expand(alpha[i + 1], x) * scaled)
        before = source
    return states


def backward_adjoint(flow: Flow, a: Tensor, states: list[Tensor], grid: Tensor, w: Tensor) -> Tensor:
    """Return the adjoint at the last of decreasing times from ``a`` at the first, along states at these times."""
    alpha, zeta = flow.path.alpha(grid), flow.path.zeta(grid)
    b, before = expand(alpha[0], a) * a, torch.zeros_like(a)
    noisy = (zeta > 0).reshape(len(zeta), -1).any(1).tolist()
    for i in range(len(w)):
        product = torch.zeros_like(b)
        if noisy[i]:
            pull = flow.predict_vjp(states[i], grid[i], flow.path.readout("source", grid[i]))[1]
            product = expand(alpha[i], b) * pull(b)
        b = b + expand(zeta[i] - zeta[i + 1], b) * (product + expand(w[i], b) * (product - before))
        before = product
    return b / expand(alpha[-1], b)


@register("adjoint_deis", VARIANTS)
def adjoint_deis(
    flow: Flow, loss: Loss, x: Tensor, t: Tensor, *, steps: int, order: int = 1, expansion: str = "log_snr"
) -> tuple[Tensor, Tensor, Tensor]:
    """Integrate the adjoint back by AdjointDEIS of order 1 or 2 on a uniform grid, along stored states.

    ``expansion``, used by order 2 alone, is the variable of the Taylor expansion: "log_snr" or "zeta".

    Returns
    -------
    tuple
        Gradient and endpoint (B, *event), and the loss there (B,).

    Raises
    ------
    ValueError
        For another order or expansion, ``steps`` below 1, and t at which alpha is zero.
    """
    if (order := checks.count("order", order)) not in ORDERS:
        raise ValueError(f"order must be 1 or 2, got {order!r}")
    checks.known("expansion", expansion, EXPANSIONS)
    grid = solvers.uniform_grid(t, torch.ones_like(t), checks.steps(steps))
    path, backward = flow.path, grid.flip(0)
    if bool((path.alpha(t) == 0).any()):
        raise ValueError(
            f"t must lie where alpha is positive: the adjoint of x/alpha has no limit at alpha = 0 on {path}"
        )
    states = forward_states(flow, x, grid, weights(path, grid, order, expansion))
    value, a = value_and_gradient(loss, states[-1])
    gradient = backward_adjoint(flow, a, states[::-1], backward, weights(path, backward, order, expansion))
    return gradient, states[-1], value
