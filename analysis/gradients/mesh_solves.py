"""Solves on the canonical path in which every sample has its own number of steps and its own mesh."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from analysis import canonical, solvers
from analysis.canonical import CANONICAL, CanonicalView
from analysis.flow import Flow, Pullback
from analysis.gradients.mesh import Mesh, adjoint_curvature, curvature_sums, turn_and_growth
from analysis.losses import Loss, value_and_gradient
from analysis.norms import norms

SOLVER = "ralston"
LARGEST_TAPE = 2**20  # numbers of all states of a solve that is differentiated at once; its memory is many times that
FAR = 1e3  # a prediction that is longer than all states by more has diverged


class AdjointCurvature(NamedTuple):
    """Error measures from the adjoints of solves, (C,) each; infinite after a single step.

    Attributes
    ----------
    weighted, total : p and q of ``analysis.gradients.mesh``
    turn, growth : the largest turn between neighbours, and the growth on the way, of ``mesh.turn_and_growth``
    ahead : n^2 p on the mesh that has been refined for the next solves
    """

    weighted: Tensor
    total: Tensor
    turn: Tensor
    growth: Tensor
    ahead: Tensor


class MeshGradients(NamedTuple):
    """Gradients and endpoints (C, *event), the loss there (C,), and the curvature of the adjoints."""

    gradient: Tensor
    endpoint: Tensor
    value: Tensor
    curvature: AdjointCurvature


@dataclass(frozen=True)
class MeshSolves:
    """Solves of B samples, each from its own time; the loss is that of the whole batch.

    Attributes
    ----------
    view, state : the flow on the canonical path, and the states there (B, *event)
    mesh : the steps, refined by every solve for the next one
    """

    view: CanonicalView
    state: Tensor
    mesh: Mesh
    loss: Loss

    @classmethod
    def of(cls, flow: Flow, loss: Loss, x: Tensor, t: Tensor, most: int) -> MeshSolves:
        """Make solves from x (B, *event) at times t (B,), of at most ``most`` steps each, with equal steps at first."""
        view = canonical.view(flow, t)
        return cls(view, view.enter(x), Mesh.equal(len(x), most, view.begin), loss)

    def solve(self, index: Tensor, steps: Tensor) -> MeshGradients:
        """Solve the samples in ``index`` (C,) with ``steps`` (C,) steps each, and refine their meshes."""
        gradient, endpoint = (torch.empty_like(self.state[index]) for _ in range(2))
        values, order = list[Tensor](), list[Tensor]()
        curvature = self.view.begin.new_full((5, len(index)), torch.inf)
        for n, part in _groups(steps, LARGEST_TAPE // self.state[0].numel()):
            some = index[part]
            nodes = self.mesh.place(some, n)
            adjoints, endpoint[part], value = self._adjoints(some, nodes)
            values.append(value)
            order.append(part)
            gradient[part] = self.view.select_rows(some).enter(adjoints[0])
            if n > 1:
                c = adjoint_curvature(adjoints, nodes)
                curvature[:4, part] = torch.stack([*curvature_sums(c, nodes), *turn_and_growth(adjoints)])
                curvature[4, part] = self.mesh.refine(some, nodes, c)
        value = torch.cat(values)[torch.cat(order).argsort()]
        return MeshGradients(gradient, endpoint, value, AdjointCurvature(*curvature))

    def _adjoints(self, index: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the adjoints at the nodes (n + 1, C, *event) of C samples, the endpoints, and the loss there."""
        view = self.view.select_rows(index)
        plan = solvers.plan(SOLVER, CANONICAL, torch.lerp(view.begin, view.end, nodes))  # exact at both ends
        state, pulls = self.state[index], list[Pullback]()
        for i in range(len(plan)):
            state, pull = solvers.step_vjp(view.flow, state, plan[i])
            pulls.append(pull)
        endpoint = view.leave(state)
        value, loss_gradient = rows_value_and_gradient(self.loss, index, endpoint, self.state)
        adjoints = [view.leave(loss_gradient)]
        for pull in reversed(pulls):
            adjoints.append(pull(adjoints[-1]))
        return torch.stack(adjoints[::-1]), endpoint, value


def rows_value_and_gradient(loss: Loss, index: Tensor, part: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluate the loss and its gradient at ``part`` for the samples in ``index`` of a whole batch.

    A loss may hold one target per sample, so it is always called on the full batch. It need not be defined at noisy
    states, so rows outside ``index`` are filled with the shortest prediction of the part; only if all predictions have
    diverged are they filled with ``states`` (B, *event), so that the other samples do not appear to diverge.

    Returns
    -------
    tuple
        The loss (C,) and its gradient (C, *event).
    """
    size = norms(part).nan_to_num(torch.inf)
    fill = part[size.argmin()].expand_as(states) if bool(size.min() <= FAR * norms(states).max()) else states
    value, gradient = value_and_gradient(loss, fill.index_copy(0, index, part))
    return value[index], gradient[index]


def _groups(steps: Tensor, most: int) -> Iterator[tuple[int, Tensor]]:
    """Yield each number of steps with its samples, in groups of at most ``most`` steps in all, or one sample."""
    for n in steps.unique().tolist():
        yield from ((n, part) for part in (steps == n).nonzero()[:, 0].split(max(1, most // n)))
