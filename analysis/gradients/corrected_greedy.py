r"""Late greedy guidance with its leading term, which needs no derivative there.

In :math:`y = x/\alpha`, :math:`z = \sigma/\alpha` greedy follows the tangent, :math:`r = y - z y'`, and its leading
error is :math:`\tfrac12 z^2 y''` (``analysis.bounds.leading_term``). A smooth density does not depend on z to first
order, so :math:`\hat x_0 = y' \approx z\,y''`: the leading term is :math:`\tfrac12 z y' = \tfrac12 (y - r)`, half of
the difference between the state and the target prediction. With :math:`v = \nabla L(r)`, :math:`g = Dr^T v`, and
:math:`Dr \approx I/\alpha` to leading order,

.. math:: g^* - g \approx \tfrac12 (v/\alpha - g) + \bigl[\nabla L(r + \tfrac12 (y - r)) - v\bigr]/\alpha .

For one Gaussian, with D the eigenvalues of :math:`\alpha D\hat x_1`, greedy's error in the Jacobian is
:math:`\sqrt D - D \le \tfrac12 (1 - D)`: the estimate is then also a bound. Where a path ends with
:math:`\sigma_1 > 0`, r is the DDIM step to its end, and one half becomes :math:`\tfrac12 (1 - \zeta_1/\zeta)`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from analysis.errors import relative
from analysis.flow import Flow
from analysis.gradients.mesh_solves import rows_value_and_gradient
from analysis.losses import Loss
from analysis.paths import expand

LARGEST_LEADING_TERM = 0.06  # larger ones are not believed, however wide the tolerance


class CorrectedGreedy(NamedTuple):
    """Corrected gradients and endpoints (C, *event), the loss there, and the leading term's share of them, (C,)."""

    gradient: Tensor
    endpoint: Tensor
    value: Tensor
    error: Tensor


def corrected_greedy(flow: Flow, loss: Loss, x: Tensor, t: Tensor, index: Tensor) -> CorrectedGreedy:
    """Compute greedy's gradient with its leading term for the samples ``index`` (C,) of x (B, *event), t (B,).

    Where the term is too large to be a leading term, ``error`` is infinite and the endpoint is greedy's own.

    Returns
    -------
    CorrectedGreedy
        Of C samples.
    """
    path, one = flow.path, t.new_ones(())
    y, s = x[index], t[index]
    alpha, sigma, alpha_1, sigma_1 = path.alpha(s), path.sigma(s), path.alpha(one), path.sigma(one)
    readout = path.combination(alpha_1.expand_as(s), sigma_1.expand_as(s), s)
    prediction, pull = flow.select_rows(index).predict_vjp(y, s, readout)
    loss_gradient = rows_value_and_gradient(loss, index, prediction, x)[1]
    greedy = pull(loss_gradient)
    spread = expand(alpha_1 / alpha, y)
    # zeta_1/zeta; where the path ends without noise it is 0, also at the end itself
    half = expand((1 - (sigma_1 * alpha / (alpha_1 * sigma) if float(sigma_1) else 0 * s)) / 2, y)
    jacobian_part = half * (spread * loss_gradient - greedy)
    # A loss is not asked for its gradient where the leading term would move the prediction out of all proportion.
    near = relative(jacobian_part, greedy) <= 2 * LARGEST_LEADING_TERM
    endpoint = torch.where(expand(near, y).bool(), prediction + half * (spread * y - prediction), prediction)
    value, corrected = rows_value_and_gradient(loss, index, endpoint, x)
    term = jacobian_part + spread * (corrected - loss_gradient)
    error = torch.where(near, relative(term, greedy + term), torch.inf)
    return CorrectedGreedy(greedy + term, endpoint, value, error)
