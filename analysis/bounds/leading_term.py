r"""The leading term of greedy guidance's error: one product with a Jacobian, and no reference.

In :math:`y = x/\alpha` and :math:`z = \zeta = \sigma/\alpha` a trajectory obeys :math:`dy/dz = \hat x_0`, and
:math:`\hat x_1 = y - z\,dy/dz`. Integrating by parts,

.. math:: \Phi_{t,1}(x) - \hat x_1(x, t) = \int_0^{\zeta_t} z\,y''(z)\,dz \approx \tfrac12 \zeta_t^2\,y''(\zeta_t),

so that :math:`g^* - g_{greedy} \approx \nabla_x \langle \nabla L(\hat x_1), \tfrac12\zeta^2 y'' \rangle
= \tfrac12\zeta^2 [(Dy'')^T \nabla L + D\hat x_1^T \nabla^2 L\, y'']` up to terms of higher order in zeta (after the
proposition on the exact solution of arXiv 2502.08006; the estimate goes beyond it). The curvature
:math:`y'' = d\hat x_0/dz` along the trajectory is the derivative of the flow's source prediction in the joint direction
:math:`(dx/dz, dt/dz)`. Where a path ends at :math:`\alpha_1 \neq 1` or :math:`\zeta_1 > 0` the same Taylor polynomial
of y at :math:`\zeta_t` is evaluated at :math:`\zeta_1`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from analysis import checks
from analysis.bounds.plain_norms import PlainNorms
from analysis.flow import Flow, PredictionFlow, Reparametrized
from analysis.losses import Loss, WithGraph, value_and_gradient
from analysis.paths import expand

Field = Callable[[Tensor, Tensor], Tensor]


def curvature(flow: Flow, x: Tensor, t: Tensor | float) -> Tensor:
    """Compute y'' = d x0hat / d zeta along the trajectory through x (B, *event) at t (float or (B,)).

    It is one product with the Jacobian in (x, t) jointly, so the flow must be differentiable in t too. A network that
    rounds its times has no derivative in them, and the missing part goes unnoticed. Where x requires a gradient, so
    does the result.

    The product of a wrapped function is taken by two backward passes, since few networks have a forward-mode
    derivative: TorchScript gives wrong ones, checkpointed activations and attention none. Attention is computed by its
    plain formula here, as its fused kernels can be differentiated only once.

    Returns
    -------
    Tensor
        (B, *event).

    Raises
    ------
    TypeError
        For arguments of another kind.
    ValueError
        For x or t that the flow does not take, where zeta or its derivative is not finite and nonzero (t = 0 where
        alpha is zero, t = 1 on linear VP), and for a flow that cannot be differentiated twice.
    """
    x, t = checks.flow(flow).checked(x, t)
    dx, dt = _direction(flow, x, t)

    def source(x: Tensor, t: Tensor) -> Tensor:
        return flow.predict(x, t, flow.path.readout("source", t))

    with sdpa_kernel(SDPBackend.MATH):
        two_passes = isinstance(flow, PredictionFlow | Reparametrized)
        return (_double_backward if two_passes else _forward_mode)(source, x, t, dx, dt)


def remainder(flow: Flow, x: Tensor, t: Tensor | float) -> Tensor:
    """Return the leading term (B, *event) of Phi_{t,1}(x) - x1hat(x, t); arguments and errors as of ``curvature``."""
    x, t = checks.flow(flow).checked(x, t)
    alpha, sigma, zeta = flow.path.alpha(1.0), flow.path.sigma(1.0), flow.path.zeta(t)
    moved = expand(alpha * (zeta - sigma / alpha) ** 2 / 2, x) * curvature(flow, x, t)
    if float(alpha) == 1 and float(sigma) == 0:
        return moved
    return moved + flow.predict(x, t, flow.path.combination((alpha - 1).expand(t.shape), sigma.expand(t.shape), t))


def leading_term(flow: Flow, loss: Loss, x: Tensor, t: Tensor | float) -> Tensor:
    """Compute the leading-term estimate of greedy's error g* - g at states x (B, *event), t (float or (B,)).

    The estimate is a signed vector: for small zeta, greedy's gradient plus the estimate is closer to the ideal one.
    It is a third derivative of a network, and torch's is wrong where layers are normalised: see ``plain_norms``.

    Returns
    -------
    Tensor
        (B, *event).

    Raises
    ------
    TypeError
        For arguments of another kind.
    ValueError
        As ``curvature`` does, and for a loss that ``losses.value_and_gradient`` refuses.
    """
    x, t = checks.arguments(flow, loss, x, t)
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), PlainNorms():
        x = x.detach().requires_grad_()
        endpoint = flow.predict(x, t, flow.path.readout("target", t))
        cotangent = value_and_gradient(WithGraph(loss, loss), endpoint)[1]
        estimate = (cotangent * remainder(flow, x, t)).sum()
        with _refused_where_once():
            return torch.autograd.grad(estimate, x)[0]


@contextmanager
def _refused_where_once() -> Iterator[None]:
    """Turn torch's many errors about missing second derivatives into one ``ValueError`` that states the need."""
    try:
        yield
    except RuntimeError as error:
        raise ValueError(f"flow must be differentiable twice in x and t, and is not: {error}") from error


def _direction(flow: Flow, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return dx/dzeta = alpha'(zeta) y + alpha x0hat (B, *event), and dt/dzeta like t; else ``ValueError``."""
    path = flow.path
    alpha, sigma = path.alpha(t), path.sigma(t)
    dt = alpha**2 / (path.d_sigma(t) * alpha - sigma * path.d_alpha(t))
    good = (alpha > 0) & torch.isfinite(dt) & (dt != 0)
    if not bool(good.all()):
        raise ValueError(
            f"t must lie where zeta = sigma/alpha and its derivative are finite and nonzero, which on {path} they are "
            f"not at t = {float(t.expand(good.shape)[~good].flatten()[0]):.6g}"
        )
    source = flow.predict(x, t, path.readout("source", t))
    return expand(path.d_alpha(t) * dt / alpha, x) * x + expand(alpha, x) * source, dt


def _forward_mode(field: Field, x: Tensor, t: Tensor, dx: Tensor, dt: Tensor) -> Tensor:
    """Return the derivative of ``field`` along (dx, dt)."""
    with _refused_where_once():
        return torch.func.jvp(field, (x, t), (dx, dt))[1]


def _double_backward(field: Field, x: Tensor, t: Tensor, dx: Tensor, dt: Tensor) -> Tensor:
    """Return J (dx, dt) as the derivative in w of <J^T w, (dx, dt)>; ``RuntimeError`` without that derivative."""
    tracked = x.requires_grad
    with torch.enable_grad(), _refused_where_once():
        x, t = x if tracked else x.detach().requires_grad_(), t.detach().requires_grad_()
        value = field(x, t)
        w = torch.ones_like(value, requires_grad=True)
        pulled = torch.autograd.grad(value, (x, t), w, create_graph=True, materialize_grads=True)
        product = torch.stack([(p * v).sum() for p, v in zip(pulled, (dx, dt), strict=True)]).sum()
        (result,) = torch.autograd.grad(product, w, create_graph=tracked)
        # What can be differentiated only once drops out of the second pass in silence, but not out of this.
        value = result.detach()
        if bool((value.sum() - product.detach()).abs() > torch.finfo(x.dtype).eps ** 0.5 * value.abs().sum()):
            raise RuntimeError("an operation can be differentiated only once")
    return result
