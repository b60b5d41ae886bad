r"""TMPD for many measured values, DTMPD: its covariance is replaced by a diagonal matrix, of its row sums.

With the posterior covariance :math:`V = (\sigma^2/\alpha) D\hat x_1` of ``tmpd`` and the units in which the noise is
N(0, I),

.. math:: g = D\hat x_1^T A^T (I + \mathrm{diag}(A V A^T 1))^{-1} (A \hat x_1 - y),

so that two VJPs do for any number of measured values (Boys et al., arXiv 2310.06721, for images). The row sums are the
diagonal where the errors of the measured values do not correlate. Where some correlate negatively, a row sum may be
negative, and below -1 the value's residual is followed the wrong way; as in the authors' code
(github.com/bb515/diffusionjax, ``get_vjp_guidance_mask``), nothing is clipped. Theirs takes the rows' sums times A 1,
which is 1 for the masks that it is for.
"""

from __future__ import annotations

import torch
from torch import Tensor

from analysis.flow import Flow
from analysis.gradients._pigdm import measurement
from analysis.gradients.registry import register
from analysis.losses import Equivalent, LinearGaussian, Loss
from analysis.norms import widened
from analysis.paths import expand


def _measured(loss: Loss, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows and values as ``measurement`` does, but one row for each measured value."""
    rows, values = measurement(loss, x)
    while isinstance(loss, Equivalent):
        loss = loss.original
    if isinstance(loss, LinearGaussian):
        rows, values = (part.to(widened(x)) for part in loss.whitened)
    return rows, values


@register("dtmpd")
def dtmpd(flow: Flow, loss: Loss, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Differentiate a Gaussian likelihood with the row sums of TMPD's covariance: one evaluation and two VJPs.

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
    rows, values = _measured(loss, x)
    endpoint, pull = flow.predict_vjp(x, t, flow.path.readout("target", t))
    pulled = widened(pull(rows.sum(0).to(x).reshape(x.shape[1:]).expand_as(x))).flatten(1)
    alpha, sigma = flow.path.alpha(t), flow.path.sigma(t)
    spread = expand(torch.where(alpha > 0, sigma**2 / alpha, 0.0), pulled) * (pulled @ rows.T)
    residual = widened(endpoint).flatten(1) @ rows.T - values
    return pull(((residual / (1 + spread)) @ rows).reshape(x.shape).to(x)), endpoint
