"""Gradients that can be differentiated again: a flow and a loss whose every answer keeps its graph.

An estimator differentiates through ``predict_vjp`` and ``value_and_gradient``, which return numbers without a graph.
Here are a flow and a loss that return theirs with it, made by autograd twice, so that any estimator made of these two
can be differentiated in x once more: a row of the Hessian for each backward pass.
"""

from __future__ import annotations

import torch
from torch import Tensor

from analysis.flow import Flow, Pullback
from analysis.losses import Loss, WithGraph
from analysis.paths import AffinePath, Readout

CHOOSES = ("adaptive",)  # estimators whose result jumps in x, as they choose by it


class GraphFlow(Flow):
    """A flow whose predictions and products keep the graph to the states that they were taken at."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self.path, self.event_shape, self.dtype = flow, flow.path, flow.event_shape, flow.dtype

    def with_path(self, path: AffinePath) -> Flow:
        """Return the flow along another path, with its graph."""
        return GraphFlow(self.flow.with_path(path))

    def select_rows(self, rows: Tensor) -> Flow:
        """Return the flow of these samples, with its graph."""
        return GraphFlow(self.flow.select_rows(rows))

    def predict(self, x: Tensor, t: Tensor, readout: Readout) -> Tensor:
        """Return the readout.

        Raises
        ------
        ValueError
            Where the readout does not depend on x through autograd.
        """
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
    """Return the flow and the loss with which the estimator called ``name`` can be differentiated in x again.

    Raises ``ValueError`` where x does not require a gradient, where t does, and for an estimator that chooses.
    """
    if name in CHOOSES:
        raise ValueError(f"create_graph must be False for {name}: what it chooses jumps in x")
    if not x.requires_grad or t.requires_grad:
        raise ValueError("x must require a gradient where create_graph is True, and t must not")
    return GraphFlow(flow), WithGraph(loss, loss)
