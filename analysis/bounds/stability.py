r"""Bounds of the n-step end-to-end gradient's error: local defects, propagated by the stability of the exact flow.

Let :math:`x_i` be the exact trajectory at the grid's times, :math:`\phi_i` the exact flow from :math:`t_i` to
:math:`t_{i+1}`, and :math:`W_i(x)` the loss of what the solver makes of x from :math:`t_i` on, so that
:math:`\nabla W_0(x_0)` is the n-step gradient :math:`g_n` and :math:`\nabla W_n(x_n) = \nabla L(\Phi)`. The sum

.. math:: g_n - g^* = \sum_{i=0}^{n-1} D\Phi_{0,i}^T \delta_i, \qquad
          \delta_i = \nabla W_i(x_i) - D\phi_i^T \nabla W_{i+1}(x_{i+1})

telescopes, since :math:`D\Phi_{0,i}^T D\phi_i^T = D\Phi_{0,i+1}^T` and :math:`D\Phi_{0,n}^T\nabla W_n = g^*`: it is
exact, and each :math:`\delta_i` is the defect of one step, :math:`O(h^{p+1})`. By Gronwall's inequality

.. math:: |g_n - g^*| \le \sum_i e^{L (t_i - t_0)} |\delta_i|, \qquad
          |g_n - g^*| \le \sum_i \exp\Big(\int_{t_0}^{t_i} \mu(Du)\,ds\Big) |\delta_i| ,

with L the largest :math:`\|Du\|` on the trajectory and :math:`\mu(Du)`, the logarithmic norm, the largest eigenvalue of
its symmetric part: negative where the flow contracts. In zeta coordinates (``analysis.bounds.remainder``)
:math:`D x_i = \alpha_i D y_i`. With :math:`A = D_y \hat x_0` and the velocity's weights a on the target and c on minus
the score, :math:`Du = \frac{a}{\alpha}(I - zA) + \frac{c}{\alpha\sigma} A`.

The a-posteriori estimate by step doubling is :math:`(g_{2n} - g_n) 2^p / (2^p - 1)`, without a proof.
Sources: Söderlind 2006, *The logarithmic norm* (BIT 46); Hairer, Norsett & Wanner, *Solving ODEs I*, I.10 and II.4.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from analysis import solvers
from analysis.bounds.remainder import norm, transposed
from analysis.flow import Flow
from analysis.losses import Loss, value_and_gradient
from analysis.paths import AffinePath


def defects(
    flow: Flow, loss: Loss, states: Tensor, times: Tensor, jacobians: Tensor, solver: str
) -> tuple[Tensor, Tensor]:
    """Compute the n-step gradient and the norms of the local defects.

    The solves from all grid points to the end advance together, as one batch that grows step by step.

    Parameters
    ----------
    loss : a loss of B samples
    states : (n + 1, B, d), the exact trajectory at ``times`` (n + 1,), in x
    jacobians : (n, B, d, d), the exact flow's Jacobian over each step, in x
    solver : a one-step method

    The solves from all grid points to the end advance together, as one batch that grows step by step.

    Returns
    -------
    tuple
        G_n (B, d), and the norms (n, B).
    """
    count, batch = len(jacobians), states.shape[1]
    plan = solvers.plan(solver, flow.path, times)
    running, pulls = states[0], []
    for i in range(count):
        repeated = flow.select_rows(torch.arange(batch, device=states.device).repeat(i + 1))
        running, pull = solvers.step_vjp(repeated, running, plan[i])
        pulls.append(pull)
        running = torch.cat([running, states[i + 1]])  # the last of them has no steps left: its W is the loss
    ends = running.unflatten(0, (count + 1, batch))
    adjoint = torch.stack([value_and_gradient(loss, end)[1] for end in ends]).flatten(0, 1)
    after, norms = adjoint[-batch:], []
    for i in reversed(range(count)):
        adjoint = pulls[i](adjoint[:-batch])
        here = adjoint[-batch:]
        norms.append(norm(here - transposed(jacobians[i], after)))
        after = here
    return adjoint, torch.stack(norms[::-1])


def compose(jacobians: Tensor, stride: int) -> Tensor:
    """Return the Jacobians (n / stride, ...) over ``stride`` steps each, from those over one step (n, B, d, d)."""
    parts = jacobians.unflatten(0, (-1, stride)).unbind(1)
    return functools.reduce(lambda before, after: after @ before, parts)


def spectrum(source_jacobian: Tensor) -> Tensor:
    """Return the least and the largest eigenvalue (..., 2) of the symmetric D x0hat (..., d, d)."""
    return torch.linalg.eigvalsh(source_jacobian)[..., [0, -1]]


def logarithmic_norm(weight: Tensor, eigenvalues: Tensor) -> Tensor:
    """Integrate mu over [t_0, t_i] for the flow in y, at each checkpoint but the last.

    ``weight`` (C, N + 1, M) and ``eigenvalues`` (C, N + 1, M, B, 2) are a ``Trajectory``'s and its ``spectrum``.
    Towards z = 0 the flow in y has the Jacobian -D x0hat. In x, add log(alpha_i / alpha_0).

    Returns
    -------
    Tensor
        (C, M, B).
    """
    parts = (weight[..., None] * -eigenvalues[..., 0]).sum(1)
    return parts.cumsum(0) - parts


def lipschitz(schedule: AffinePath, z: Tensor, eigenvalues: Tensor) -> Tensor:
    """Return the largest |Du| in x (B,) over the nodes z (...,) > 0 of one flow; eigenvalues (..., B, 2)."""
    t = schedule.time_from_zeta(z)
    alpha, sigma, readout = schedule.alpha(t), schedule.sigma(t), schedule.readout("velocity", t)
    on_identity, on_source = readout.target / alpha, readout.minus_score / (alpha * sigma) - readout.target * z / alpha
    values = on_identity[..., None, None] + on_source[..., None, None] * eigenvalues
    return values.abs().amax(-1).flatten(0, -2).amax(0)
