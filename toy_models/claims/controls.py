"""T5: gradients in a control signal, dx/dt = u(x, t) + z(t)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import torch
from torch import Tensor

from analysis.claims import PRINTED, Case, claim
from analysis.errors import relative_error
from analysis.gradients._control import control_gradients
from analysis.reference import EPS, ideal_gradient
from analysis.solvers import SOLVERS
from toy_models.claims import common
from toy_models.claims.common import Draw

READING_T5 = "as printed: a constant control has the integral of the adjoint, the functional derivative is the adjoint"
T = 0.3
Adjoints = Callable[[Draw, Tensor], Tensor]


@claim(
    "T5",
    "For dx/dt = u + z(t) the gradient in a z constant on [t, 1] is the integral of the adjoint a_x, and the "
    "functional derivative at s is a_x(s).",
    "arXiv 2502.08006 (T5)",
)
def control(quick: bool, seed: int) -> Iterator[Case]:
    """Fit the orders at which the suite's gradients tend to the ideal adjoint, and difference the controlled loss."""
    problems, paths = (("product256",), ("condot",)) if quick else (("gaussian", "product256"), ("condot", "cosine"))
    for problem, path in product(problems, paths):
        drawn, name = common.states(problem, path, [T], 3 if quick else 8, seed), f"{problem}, {path}"
        yield from control_cases(drawn, name, ("midpoint",) if quick else ("euler", "midpoint", "heun"), adjoints)


def control_cases(drawn: Draw, name: str, solvers: tuple[str, ...], ideal: Adjoints, scale: int = 8) -> Iterator[Case]:
    """Hold control gradients at states of one time against the adjoints ``ideal(drawn, times)``, (n, B, d).

    ``scale`` is the number of steps that the step counts of the constant control are multiples of.
    """
    integral, coarse = _integral(ideal, drawn, 24), _integral(ideal, drawn, 16)
    yield from _constant(drawn, integral, coarse, name, solvers, scale)
    yield _differences(drawn, integral, name)
    yield _functional(drawn, name, ideal)


def adjoints(drawn: Draw, times: Tensor) -> Tensor:
    """Return a_x, (n, B, d), at increasing times (n,) on the uncontrolled trajectory: the ideal gradients there."""
    found = common.trajectory(drawn.flow, drawn.x, torch.cat([drawn.t[:1], times]), 4)[1:]
    where = times.repeat_interleave(len(drawn.x))
    target = type(drawn.loss)(drawn.loss.target.repeat(len(times), 1))
    return ideal_gradient(drawn.flow, target, found.flatten(0, 1), where).gradient.unflatten(0, (len(times), -1))


def _integral(ideal: Adjoints, drawn: Draw, nodes: int) -> Tensor:
    points, weights = common.gauss(nodes)
    t = float(drawn.t[0])
    return (1 - t) * torch.einsum("n,nbd->bd", weights, ideal(drawn, t + (1 - t) * points))


def _constant(
    drawn: Draw, integral: Tensor, coarse: Tensor, name: str, solvers: tuple[str, ...], scale: int
) -> Iterator[Case]:
    steps = [n * scale for n in (3, 4, 6, 8)]
    h, floor = 1 / torch.tensor(steps, dtype=torch.float64), float(relative_error(coarse, integral).max())
    for solver in solvers:
        means = [common.gradient("control_average", drawn, steps=n, solver=solver) for n in steps]
        error = torch.stack([relative_error((1 - drawn.t[0]) * mean, integral) for mean in means])
        case = f"constant control, {solver}, {name}"
        yield common.order(PRINTED, READING_T5, case, h, error, SOLVERS[solver].order, floor=floor)


def _differences(drawn: Draw, integral: Tensor, name: str) -> Case:
    """Hold the integral against central differences of the loss of an endpoint solved under a constant control."""
    direction = torch.randn(integral.shape, dtype=integral.dtype, generator=torch.Generator().manual_seed(1))

    def change(k: float, steps: int) -> Tensor:
        values = [
            control_gradients(
                drawn.flow, drawn.loss, drawn.x, drawn.t, s * k * EPS**0.2 * direction[None], steps=steps, solver="rk4"
            ).value
            for s in (1, -1)
        ]
        return (values[0] - values[1]) / (2 * k * EPS**0.2)

    near, far, coarse = change(1, 32), change(2, 32), change(1, 16)
    fourth = (4 * near - far) / 3
    found, expected = fourth[:, None], (integral * direction).sum(1)[:, None]
    # Truncation is below the distance from the second-order formula, the solve's error below that of half its steps.
    limit = relative_error(near[:, None], found) + relative_error(coarse[:, None], near[:, None])
    return common.equal(PRINTED, READING_T5, f"differences of the loss, {name}", found, expected, limit)


def _functional(drawn: Draw, name: str, ideal: Adjoints) -> Case:
    """Fit how the gradient in a control on one of n intervals, over its length, tends to the adjoint in its middle."""
    counts, errors, t = torch.tensor([6, 8, 12, 16]), [], float(drawn.t[0])
    for n in counts.tolist():
        zero, h = torch.zeros(n, *drawn.x.shape, dtype=drawn.x.dtype), (1 - t) / n
        found = control_gradients(drawn.flow, drawn.loss, drawn.x, drawn.t, zero, steps=2, solver="rk4").gradient / h
        middles = ideal(drawn, t + h * (torch.arange(n, dtype=torch.float64) + 0.5))
        errors.append(relative_error(found.transpose(0, 1), middles.transpose(0, 1)))
    # A mean over an interval is its middle to second order.
    lengths, case = 1 / counts.double(), f"short controls, {name}"
    return common.order(PRINTED, READING_T5, case, lengths, torch.stack(errors), 2.0, floor=0.0)
