"""Gradients that can be differentiated again: a flow and a loss whose results all have a graph.

An estimator differentiates through ``predict_vjp`` and ``value_and_gradient``, which return tensors without a graph.
The flow and the loss here return theirs with one, by applying autograd twice, so that the result of any estimator can
be differentiated in x once more: each backward pass gives a row of the Hessian.
"""

from __future__ import annotations

import torch
from torch import Tensor

from analysis.flow import Flow, Pullback
from analysis.losses import Loss, WithGraph
from analysis.paths import AffinePath, Readout

CHOOSES = ("adaptive",)  # estimators whose result jumps in x, as they choose by it


class GraphFlow(Flow):
    """A flow whose predictions and products have a graph to their states."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self.path, self.event_shape, self.dtype = flow, flow.path, flow.event_shape, flow.dtype

    def with_path(self, path: AffinePath) -> Flow:
        """Return the flow along another path, with its graph."""
        return GraphFlow(self.flow.with_path(path))

    def select_rows(self, rows: Tensor) -> Flow:
        """Return the flow of the samples with indices ``rows`` (C,), with its graph."""
        return GraphFlow(self.flow.select_rows(rows))

    def predict(self, x: Tensor, t: Tensor, readout: Readout) -> Tensor:
        """Return the readout (B, *event) with its graph to x; raises ``ValueError`` where it has none."""
        value = self.flow.predict(x, t, readout)
        if x.requires_grad and not value.requires_grad:
            raise ValueError("create_graph must be False for this flow: its predictions have no graph")
        return value

    def predict_vjp(self, x: Tensor, t: Tensor, readout: Readout) -> tuple[Tensor, Pullback]:
        """Return the readout and its pullback, both with the graph to x."""
        x = x if x.requires_grad else x.detach().requires_grad_()
        value = self.predict(x, t, readout)
        return value, lambda v: torch.autograd.grad(value, x, v, create_graph=True)[0]


def keeping_graph(name: str, flow: Flow, loss: Loss, x: Tensor, t: Tensor) -> tuple[Flow, Loss]:
    """Return the flow and the loss with which an estimator's result can be differentiated in x again.

    Returns
    -------
    tuple
        The flow and the loss.

    Raises
    ------
    ValueError
        If x does not require a gradient, if t does, and for an estimator with discrete choices.
    """
    if name in CHOOSES:
        raise ValueError(f"create_graph must be False for {name}: what it chooses jumps in x")
    if not x.requires_grad or t.requires_grad:
        raise ValueError("x must require a gradient where create_graph is True, and t must not")
    return GraphFlow(flow), WithGraph(loss, loss)
