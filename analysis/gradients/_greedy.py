r"""Greedy (posterior) guidance: :math:`D\hat x_1(x, t)^T \nabla L(\hat x_1(x, t))` (arXiv 2502.08006, section 3)."""

from __future__ import annotations

from torch import Tensor

from analysis.flow import Flow
from analysis.gradients.registry import register
from analysis.losses import Loss, value_and_gradient


@register("greedy")
def greedy(flow: Flow, loss: Loss, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Differentiate the loss of the target prediction: one evaluation and one VJP."""
    endpoint, pull = flow.predict_vjp(x, t, flow.path.readout("target", t))
    value, loss_gradient = value_and_gradient(loss, endpoint)
    return pull(loss_gradient), endpoint, value
