"""T5 on any flow: gradients in a control signal, dx/dt = u(x, t) + z(t)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from analysis.claims.cases import equality_case, order_case
from analysis.claims.ledger import PRINTED, Case
from analysis.claims.states import FlowStates, estimated_gradient, gauss_legendre
from analysis.errors import relative_error
from analysis.gradients._control import control_gradients
from analysis.reference import EPS
from analysis.solvers import SOLVERS

AS_PRINTED = "as printed: a constant control has the integral of the adjoint, the functional derivative is the adjoint"
T = 0.3
Adjoints = Callable[[FlowStates, Tensor], Tensor]


def control_cases(
    states: FlowStates, name: str, solvers: tuple[str, ...], ideal: Adjoints, scale: int = 8
) -> Iterator[Case]:
    """Compare control gradients at states of one time with the adjoints ``ideal(states, times)`` (n, B, d).

    ``scale`` divides all step counts of the constant control.

    Yields
    ------
    Case
        One per order, and one for the loss.
    """
    integral, coarse = _integral(ideal, states, 24), _integral(ideal, states, 16)
    yield from _constant_control(states, integral, coarse, name, solvers, scale)
    yield _loss_differences(states, integral, name)
    yield _short_controls(states, name, ideal)


def _integral(ideal: Adjoints, states: FlowStates, nodes: int) -> Tensor:
    points, weights = gauss_legendre(nodes)
    t = float(states.t[0])
    return (1 - t) * torch.einsum("n,nbd->bd", weights, ideal(states, t + (1 - t) * points))


def _constant_control(
    states: FlowStates, integral: Tensor, coarse: Tensor, name: str, solvers: tuple[str, ...], scale: int
) -> Iterator[Case]:
    steps = [n * scale for n in (3, 4, 6, 8)]
    h, floor = 1 / torch.tensor(steps, dtype=torch.float64), float(relative_error(coarse, integral).max())
    for solver in solvers:
        means = [estimated_gradient("control_average", states, steps=n, solver=solver) for n in steps]
        error = torch.stack([relative_error((1 - states.t[0]) * mean, integral) for mean in means])
        case = f"constant control, {solver}, {name}"
        yield order_case(PRINTED, AS_PRINTED, case, h, error, SOLVERS[solver].order, floor=floor)


def _loss_differences(states: FlowStates, integral: Tensor, name: str) -> Case:
    """Compare the integral with central differences of the loss of an endpoint solved under a constant control."""
    direction = torch.randn(integral.shape, dtype=integral.dtype, generator=torch.Generator().manual_seed(1))

    def loss_under(control: Tensor, steps: int) -> Tensor:
        arguments = states.flow, states.loss, states.x, states.t, control[None]
        return control_gradients(*arguments, steps=steps, solver="rk4").value

    def change(k: float, steps: int) -> Tensor:
        values = [loss_under(s * k * EPS**0.2 * direction, steps) for s in (1, -1)]
        return (values[0] - values[1]) / (2 * k * EPS**0.2)

    near, far, coarse = change(1, 32), change(2, 32), change(1, 16)
    fourth_order = ((4 * near - far) / 3)[:, None]
    expected = (integral * direction).sum(1)[:, None]
    # Truncation is below the distance from the second-order formula, the solve's error below that of half its steps.
    limit = relative_error(near[:, None], fourth_order) + relative_error(coarse[:, None], near[:, None])
    return equality_case(PRINTED, AS_PRINTED, f"differences of the loss, {name}", fourth_order, expected, limit)


def _short_controls(states: FlowStates, name: str, ideal: Adjoints) -> Case:
    """Fit the order at which the gradient in a control on one of n intervals tends to the adjoint in its middle."""
    counts, errors, t = torch.tensor([6, 8, 12, 16]), [], float(states.t[0])
    for n in counts.tolist():
        zero, h = torch.zeros(n, *states.x.shape, dtype=states.x.dtype), (1 - t) / n
        estimate = control_gradients(states.flow, states.loss, states.x, states.t, zero, steps=2, solver="rk4")
        middles = ideal(states, t + h * (torch.arange(n, dtype=torch.float64) + 0.5))
        errors.append(relative_error((estimate.gradient / h).transpose(0, 1), middles.transpose(0, 1)))
    # A mean over an interval is its middle to second order.
    lengths, case = 1 / counts.double(), f"short controls, {name}"
    return order_case(PRINTED, AS_PRINTED, case, lengths, torch.stack(errors), 2.0, floor=0.0)
