r"""Guidance by a Gaussian likelihood, for losses :math:`L(x) = |A x - y|^2_{R^{-1}}/2`: PiGDM and TMPD.

The posterior of X_1 given X_t = x is replaced by :math:`N(\hat x_1, V)`, so that y given x is Gaussian too, and

.. math:: g = -\nabla_x \log N(y; A\hat x_1, A V A^T + R) = D\hat x_1^T A^T (A V A^T + R)^{-1} (A \hat x_1 - y),

where V is held constant in the differentiation (as in both papers): its own gradient, and that of the determinant, are
left out. V = 0 is greedy guidance.

- ``pigdm``: :math:`V = r_t^2 I` (Song et al., *Pseudoinverse-guided diffusion models*, ICLR 2023). Their
  :math:`r_t^2 = \sigma^2/(1 + \sigma^2)` at alpha = 1 is the posterior variance of data of unit variance; for data
  variance v along any affine path it is :math:`r_t^2 = v\sigma^2/(v\alpha^2 + \sigma^2)`. A further weight in
  a sampler, such as theirs of r_t^2, is a step size and not part of the gradient.
- ``tmpd``: :math:`V = (\sigma^2/\alpha) D\hat x_1`, the true posterior covariance (Boys et al., arXiv 2310.06721; the
  full matrix, not the diagonal approximation of their image experiments). Tweedie's second-order formula:
  :math:`\mathrm{Var}[X_1|x] = (\sigma^2/\alpha^2)(I + \sigma^2 \nabla^2 \log p_t)` and
  :math:`D\hat x_1 = (I + \sigma^2 \nabla^2 \log p_t)/\alpha`. It costs min(m, d) VJPs. For one Gaussian V is constant
  and g is the exact negative likelihood score.

Both were compared with the code of TMPD's authors (github.com/bb515/tmpdjax, with diffusionjax), which has the same
r_t^2 (at alpha = 1 in its variance-exploding solvers) and V. Its solvers multiply g by r_t^2 and by sigma^2/alpha, a
matter of the step size here, and its cheap variant keeps the row sums of A V A^T alone. PiGDM was also compared with
the code of RED-diff (github.com/NVlabs/RED-diff): it has the limit R -> 0,
:math:`r_t^2 g = D\hat x_1^T A^+(A\hat x_1 - y)`, with further weights in alpha, and in one kind of inpainting it sets
the observed pixels, which is not done here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from analysis import checks
from analysis.flow import Flow
from analysis.gradients.registry import register
from analysis.losses import Equivalent, HalfSquaredDistance, HalfSquaredResidual, LinearGaussian, Loss
from analysis.norms import widened
from analysis.paths import AffinePath, expand

LINEAR_GAUSSIAN = (HalfSquaredDistance, LinearGaussian, HalfSquaredResidual)  # but no subclass, as it may override


def isotropic_variance(path: AffinePath, t: Tensor, data_variance: float = 1.0) -> Tensor:
    """Return r_t^2 = v sigma^2 / (v alpha^2 + sigma^2), the shape of t: Var[X_1 | X_t] if X_1 has covariance v I."""
    data_variance = checks.positive("data_variance", data_variance)
    alpha, sigma = path.alpha(t), path.sigma(t)
    return data_variance * sigma**2 / (data_variance * alpha**2 + sigma**2)


def measurement(loss: Loss, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows and values with L = |rows x - values|^2/2 + constant on flattened events.

    The rows are orthogonal and k <= d; both are in float32 where x is narrower.

    Returns
    -------
    tuple
        Rows (k, d), and values (k,) or (B, k).

    Raises
    ------
    ValueError
        For a loss that is not linear-Gaussian, or whose class may be overridden to compute another loss.
    """
    while isinstance(loss, Equivalent):
        loss = loss.original
    if not isinstance(loss, HalfSquaredDistance | LinearGaussian) or type(loss) not in LINEAR_GAUSSIAN:
        raise ValueError(
            "loss must be linear-Gaussian: one of losses.LinearGaussian, losses.HalfSquaredResidual and "
            "losses.HalfSquaredDistance, with a weight in its noise and not in a wrapper or subclass; "
            f"got {getattr(loss, '__name__', type(loss).__name__)}"
        )
    loss(x)  # checks that its shapes fit x
    if isinstance(loss, LinearGaussian):
        rows, values = loss.reduced
        return rows.to(widened(x)), values.to(widened(x))
    d, values = x[0].numel(), loss.target.to(widened(x))
    return torch.eye(d, dtype=values.dtype, device=x.device), values.reshape(-1, d)


@register("pigdm")
def pigdm(flow: Flow, loss: Loss, x: Tensor, t: Tensor, *, data_variance: float = 1.0) -> tuple[Tensor, Tensor]:
    """Differentiate a Gaussian likelihood with V = r_t^2 I: one evaluation and one VJP.

    Returns
    -------
    tuple
        Gradient and endpoint (B, *event); a call returns an ``Estimate`` of them.

    Raises
    ------
    ValueError
        For a loss that is not linear-Gaussian, and a ``data_variance`` that is not positive and finite.
    """
    variance = expand(isotropic_variance(flow.path, t, data_variance), widened(x).flatten(1))
    rows, values = measurement(loss, x)
    endpoint, pull = flow.predict_vjp(x, t, flow.path.readout("target", t))
    residual = widened(endpoint).flatten(1) @ rows.T - values
    weights = residual / (1 + variance * rows.square().sum(1))  # A A^T is diagonal: the rows are orthogonal
    return pull((weights @ rows).reshape(x.shape).to(x)), endpoint


@register("tmpd")
def tmpd(flow: Flow, loss: Loss, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Differentiate a Gaussian likelihood with V = (sigma^2/alpha) D x1hat: one evaluation and min(m, d) VJPs.

    A network's D x1hat need be neither symmetric nor positive: its symmetric part is taken, and nothing is clipped.
    Where alpha = 0 the state is independent of the data: D x1hat is 0 to round-off, and so is the gradient.

    Returns
    -------
    tuple
        Gradient and endpoint (B, *event); a call returns an ``Estimate`` of them.

    Raises
    ------
    ValueError
        For a loss that is not linear-Gaussian.
    """
    rows, values = measurement(loss, x)
    endpoint, pull = flow.predict_vjp(x, t, flow.path.readout("target", t))
    pulled = torch.stack([pull(row.to(x).reshape(x.shape[1:]).expand_as(x)).flatten(1) for row in rows], 1)
    pulled = widened(pulled)
    alpha, sigma = flow.path.alpha(t), flow.path.sigma(t)
    ratio = torch.where(alpha > 0, sigma**2 / alpha, 0.0)
    spread = expand(ratio, pulled) * (pulled @ rows.T)  # (B, k, k): A V A^T
    noise = torch.eye(len(rows), dtype=rows.dtype, device=x.device)
    residual = widened(endpoint).flatten(1) @ rows.T - values
    weights = torch.linalg.solve_ex(noise + (spread + spread.mT) / 2, residual[..., None])[0]
    return (weights.mT @ pulled).reshape(x.shape).to(x), endpoint
