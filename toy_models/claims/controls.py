"""T5: gradients in a control signal, dx/dt = u(x, t) + z(t)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor

from analysis.claims import STATEMENTS, Case, claim
from analysis.claims.controls import T, control_cases
from analysis.claims.states import FlowStates, trajectory
from analysis.reference import ideal_gradient
from toy_models.claims.common import sample_states


@claim("T5", *STATEMENTS["T5"])
def control(quick: bool, seed: int) -> Iterator[Case]:
    """Fit the orders of the package's gradients to the ideal adjoint, and compare with differences of the loss."""
    problems, paths = (("product256",), ("condot",)) if quick else (("gaussian", "product256"), ("condot", "cosine"))
    solvers = ("midpoint",) if quick else ("euler", "midpoint", "heun")
    for problem, path in product(problems, paths):
        states = sample_states(problem, path, [T], 3 if quick else 8, seed)
        yield from control_cases(states, f"{problem}, {path}", solvers, adjoints)


def adjoints(states: FlowStates, times: Tensor) -> Tensor:
    """Return the ideal gradients (n, B, d) at increasing times (n,) on the uncontrolled trajectory."""
    x = trajectory(states.flow, states.x, torch.cat([states.t[:1], times]), 4)[1:]
    loss = type(states.loss)(states.loss.target.repeat(len(times), 1))  # type: ignore[attr-defined, misc]
    reference = ideal_gradient(states.flow, loss, x.flatten(0, 1), times.repeat_interleave(len(states.x)))
    return reference.gradient.unflatten(0, (len(times), -1))
