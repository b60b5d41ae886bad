r"""The ideal gradient :math:`g^* = D\Phi_{t,1}(x)^T \nabla L(\Phi_{t,1}(x))`, with its tier and an error bound.

- **exact**: the flow has a closed-form map. The bound is round-off times a measured condition number.
- **certified**: flow and adjoint are integrated to near round-off. Every affine path is the cosine path after a change
  of time and scale, so the integration runs in that time, where the field is smooth and finite at both ends:

  .. math:: \dot x = u(x), \quad \dot \ell = \mathrm{tr} Du(x) \;\text{(forward)}, \qquad \dot a = -Du(x)^T a
            \;\text{(backward, with x)}.

  The bound compares two tolerances and the round trip of x. Liouville's formula :math:`\ell = \log|\det D\Phi|` must
  agree with the change of variables :math:`\log p_t(x) - \log p_1(\Phi(x))`, which needs no second solver.
- **converged**: the same integration of a flow without a density (a network), where that identity cannot be checked.

The adaptive integrator is SciPy's DOP853 (Hairer, Norsett & Wanner, *Solving ODEs I*, section II.10), over the whole
batch at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.integrate import DOP853
from torch import Tensor

from analysis import canonical, checks
from analysis.canonical import CANONICAL
from analysis.errors import relative
from analysis.flow import Flow
from analysis.losses import Loss, value_and_gradient
from analysis.norms import norms
from analysis.paths import expand

EPS = torch.finfo(torch.float64).eps
SAFETY = 64.0  # round-offs per unit of condition number, or per solve
# The error estimate of an adaptive solver can be fooled by one long step, and two tolerances by the same one: so steps
# are capped, in units of the whole interval, and the finer solve by half as much.
MAX_STEP = 1 / 16
MAX_STEPS = 20_000
LEAST_TOLERANCE = 1e-13
MAX_ERROR = 1e-6  # a larger relative error bound is no reference


class CertificationError(RuntimeError):
    """The ideal gradient could not be computed to a bound that means anything."""


@dataclass(frozen=True)
class Reference:
    """An ideal gradient.

    Attributes
    ----------
    gradient, endpoint : (B, *event), g* and Phi_{t,1}(x)
    tier : "exact", "certified" or "converged"
    error_bound : (B,), a bound of the relative L2 error of ``gradient``
    diagnostics : (B,) tensors: "round_trip" (relative) and, where certified, "determinant" (the identity's residual)
    """

    gradient: Tensor
    endpoint: Tensor
    tier: str
    error_bound: Tensor
    diagnostics: dict[str, Tensor] = field(default_factory=dict)


def ideal_gradient(
    flow: Flow,
    loss: Loss,
    x: Tensor,
    t: Tensor | float,
    *,
    tolerance: float | None = None,
    max_error: float | None = None,
) -> Reference:
    """Return the ideal gradient at states x (B, *event) and times t (float or (B,)).

    Parameters
    ----------
    tolerance : relative tolerance of the finer integration, where there is no exact map; by default the least that
        the dtype of x allows, 1e-13 for float64 and 1.2e-5 for float32
    max_error : the largest relative error bound that is still called a reference; by default 1e-6 for float64 and
        1.2e-3 for float32

    The gradient is that of the flow as given: a wrapper's ``t_max`` below 1 changes the flow, and its gradient too.

    Raises
    ------
    ValueError : for x, t or a loss that are not as the estimators take them, or a tolerance out of range
    CertificationError : where the integration breaks down, the bound exceeds ``max_error``, or the determinant
        identity fails
    """
    x, t = flow.checked(x, t)
    least = max(LEAST_TOLERANCE, 100 * torch.finfo(x.dtype).eps)
    tolerance = least if tolerance is None else tolerance
    max_error = max(MAX_ERROR, 100 * least) if max_error is None else max_error
    if not least <= tolerance < 1e-3:
        raise ValueError(f"tolerance must lie in [{least:.3g}, 1e-3) for {x.dtype}, got {tolerance}")
    with checks.passed_door():
        exact = hasattr(flow, "exact_endpoint_vjp")
        result = _exact(flow, loss, x, t) if exact else _integrated(flow, loss, x, t, tolerance)
    worst = float(result.error_bound.nan_to_num(torch.inf).max())
    if worst > max_error:
        raise CertificationError(
            f"the ideal gradient's relative error bound is {worst:.3g}, above max_error = {max_error:.3g}, "
            f"in {int((~(result.error_bound <= max_error)).sum())} of {len(x)} samples"
        )
    return result


def _exact(flow: Flow, loss: Loss, x: Tensor, t: Tensor) -> Reference:
    def gradient(x: Tensor, t: Tensor) -> Tensor:
        endpoint, pull = flow.exact_endpoint_vjp(x, t)  # type: ignore[attr-defined]
        return pull(value_and_gradient(loss, endpoint)[1])

    endpoint, pull = flow.exact_endpoint_vjp(x, t)  # type: ignore[attr-defined]
    slope = value_and_gradient(loss, endpoint)[1]
    value = pull(slope)
    # Round-off acts like a perturbation of x, t and the endpoint by a few eps; finite differences tell what that does.
    h = EPS**0.5
    signs = torch.where(torch.arange(x.numel()).reshape(x.shape) % 2 == 0, 1.0, -1.0).to(x)
    moved = gradient(x * (1 + h * signs), t) - value, gradient(x, t * (1 - h)) - value
    stiffness = value_and_gradient(loss, endpoint * (1 + h))[1] - slope
    condition = sum(relative(m, value) for m in (*moved, pull(stiffness))) / h
    return Reference(value, endpoint, "exact", SAFETY * EPS * (1 + condition))


def _integrated(flow: Flow, loss: Loss, x: Tensor, t: Tensor, tolerance: float) -> Reference:
    coarse, _, _ = _adjoint_solve(flow, loss, x, t, 10 * tolerance, MAX_STEP, check_density=False)
    gradient, endpoint, diagnostics = _adjoint_solve(flow, loss, x, t, tolerance, MAX_STEP / 2, check_density=True)
    bound = 2 * relative(gradient - coarse, gradient) + diagnostics["round_trip"]
    bound = bound + SAFETY * torch.finfo(x.dtype).eps
    if "determinant" in diagnostics:
        _check_determinant(diagnostics["determinant"])
    return Reference(
        gradient, endpoint, "certified" if "determinant" in diagnostics else "converged", bound, diagnostics
    )


def _check_determinant(residual: Tensor) -> None:
    if not bool((residual < 1e-6).all()):
        raise CertificationError(
            f"log|det DPhi| and log p_t(x) - log p_1(Phi(x)) differ by {float(residual.max()):.3g}: "
            "the density and the velocity do not belong to each other, or the integration failed"
        )


def _adjoint_solve(
    flow: Flow, loss: Loss, x: Tensor, t: Tensor, tolerance: float, max_step: float, check_density: bool
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Return the gradient, the endpoint and diagnostics from one forward and one backward integration."""
    view = canonical.view(flow, t)
    duration = view.end - view.begin

    def time_at(s: Tensor) -> Tensor:
        return view.begin + s * duration

    has_density = check_density and hasattr(flow, "divergence") and hasattr(flow, "log_prob")

    def forward(s: Tensor, state: list[Tensor]) -> list[Tensor]:
        tau = time_at(s)
        readout = CANONICAL.readout("velocity", tau)
        velocity = expand(duration, x) * view.flow.predict(state[0], tau, readout)
        if not has_density:
            return [velocity]
        return [velocity, duration * view.flow.divergence(state[0], tau, readout)]  # type: ignore[attr-defined]

    def backward(s: Tensor, state: list[Tensor]) -> list[Tensor]:
        tau = time_at(s)
        velocity, pull = view.flow.predict_vjp(state[0], tau, CANONICAL.readout("velocity", tau))
        return [expand(duration, x) * velocity, -expand(duration, x) * pull(state[1])]

    start = view.enter(x)
    initial = [start, torch.zeros(len(x), dtype=x.dtype)] if has_density else [start]
    final = _integrate(forward, initial, 0.0, 1.0, tolerance, max_step)
    endpoint = view.leave(final[0])
    adjoint = value_and_gradient(loss, endpoint)[1]
    # Normalised per sample, so that one absolute tolerance is relative for each of them.
    size = norms(adjoint).clamp_min(torch.finfo(x.dtype).tiny)
    back, pulled = _integrate(backward, [final[0], adjoint / expand(size, x)], 1.0, 0.0, tolerance, max_step)
    # On the canonical path the noise has unit scale, which serves as the scale of states near the origin.
    diagnostics = {"round_trip": norms(back - start) / norms(start).clamp_min(1.0)}
    if has_density:
        log_det = final[1] + x[0].numel() * (torch.log(view.end_scale) - torch.log(view.begin_scale))
        change = flow.log_prob(x, t) - flow.log_prob(endpoint, 1.0)  # type: ignore[attr-defined]
        diagnostics["determinant"] = (log_det - change).abs()
    return view.enter(view.leave(expand(size, x) * pulled)), endpoint, diagnostics


def _integrate(
    rate: Callable[[Tensor, list[Tensor]], list[Tensor]],
    state: list[Tensor],
    start: float,
    end: float,
    tolerance: float,
    max_step: float,
) -> list[Tensor]:
    """Integrate tensors jointly from ``start`` to ``end`` with DOP853; raise ``CertificationError`` where it fails."""
    shapes, sizes = [p.shape for p in state], [p.numel() for p in state]
    dtype, device = state[0].dtype, state[0].device

    def split(y: np.ndarray) -> list[Tensor]:
        parts = torch.from_numpy(y).split(sizes)
        return [p.reshape(shape).to(device, dtype) for p, shape in zip(parts, shapes, strict=True)]

    def fun(s: float, y: np.ndarray) -> np.ndarray:
        rates = rate(torch.tensor(s, dtype=torch.float64), split(y))
        return torch.cat([r.detach().reshape(-1).double().cpu() for r in rates]).numpy()

    y = torch.cat([p.detach().reshape(-1).double().cpu() for p in state]).numpy()
    solver = DOP853(fun, start, y, end, rtol=tolerance, atol=tolerance, max_step=max_step)
    for _ in range(MAX_STEPS):
        message = solver.step()
        if solver.status == "finished":
            return split(solver.y)
        if solver.status == "failed" or not np.isfinite(solver.y).all():
            raise CertificationError(f"the reference integration failed at s = {solver.t:.6g}: {message}")
    raise CertificationError(f"the reference integration took more than {MAX_STEPS} steps: the flow is too stiff")
