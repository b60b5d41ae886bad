r"""The ideal gradient :math:`g^* = D\Phi_{t,1}(x)^T \nabla L(\Phi_{t,1}(x))`, with its tier and an error bound.

- **exact**: the flow has a closed-form map. The bound is round-off times a measured condition number.
- **certified**: flow and adjoint are integrated to near round-off. Every affine path is the cosine path after a change
  of time and scale, so the integration runs in that time, where the field is smooth and finite at both ends
  (``analysis.adjoint_solves``). Liouville's formula :math:`\ell = \log|\det D\Phi|` must agree with the change of
  variables :math:`\log p_t(x) - \log p_1(\Phi(x))`, which needs no second solver.
- **converged**: the same integration of a flow without a density (a network), where that identity cannot be checked.

**What the bound covers.** Of an integrated gradient: the truncation error, from two tolerances; the round trip of x;
and round-off, from replicas of a loose solve whose states, adjoints and losses are perturbed in the last digit at every
evaluation. Where round-off dominates, as in far states whose components' log-odds are large, two tolerances are only
two samples of it, and can agree by chance; the replicas are further samples. Of every gradient: the loss's own
round-off, operation by operation (``analysis.round_off``), which matters for a loss whose gradient cancels, like a
cross entropy of a class that the sample already has; and the endpoint's, through the loss's curvature.

**What it does not cover**: constants stored in less than the dtype of x, in the flow or in the loss, and any other
error common to all evaluations; round-off inside one operation of torch, or outside torch (see ``analysis.round_off``);
and, for a converged gradient, structure that every solve steps over.

**Flows that solve whole plans themselves** (``Flow.solve_vjp``, small mixtures with numba) are solved in fixed steps
instead, which are halved until each gradient stays as it is (``analysis.doubled_solves``); the difference of the last
two takes the place of that of two tolerances, and there is no way back to compare with.

The adaptive integrator is SciPy's DOP853 (Hairer, Norsett & Wanner, *Solving ODEs I*, section II.10), over the whole
batch at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from analysis import adjoint_solves, checks, doubled_solves
from analysis.adjoint_solves import Problem, Replicas
from analysis.errors import relative
from analysis.flow import Flow, HasDensity, HasExactMap
from analysis.integration import Budget, CertificationError, Progress
from analysis.losses import Loss, value_and_gradient
from analysis.round_off import perturbed_gradient

__all__ = ["EPS", "MAX_ERROR", "SAFETY", "CertificationError", "Reference", "ideal_gradient"]
EPS = torch.finfo(torch.float64).eps
SAFETY = 64.0  # round-offs per unit of condition number, or per solve
ROUND_OFF = 5.0  # of the largest of a few draws of round-off, which may all be small by chance
# The error estimate of an adaptive solver can be fooled by one long step, and two tolerances by the same one: so steps
# are capped, in units of the whole interval, and the finer solve by half as much.
MAX_STEP = 1 / 16
MAX_EVALUATIONS = 100_000
LEAST_TOLERANCE = 1e-13
MAX_ERROR = 1e-6  # a larger relative error bound is no reference
# Noise in a rate is an error of the same size in what an adaptive solver takes for its own, whatever the step: about
# two times noise / tolerance steps are needed for that alone, and so many may be.
NOISE_STEPS = 200
# By how much log|det DPhi| may miss the change of the log densities, and what share of these where they are large.
DETERMINANT, DETERMINANT_SHARE = 1e-6, 1e-9
CAUSES = {
    "tolerances": "the difference of two tolerances; a smaller tolerance helps where it is not the least already",
    "round_trip": "the change of x on the way there and back; a smaller tolerance helps as well",
    "round_off": "round-off in the flow or in the loss; a loss whose gradient cancels, such as the cross entropy of a "
    "class that is certain, can be written so that it does not",
    "condition": "round-off, by the condition number of the flow's map",
}
NOISY = (
    "the flow's own noise: its velocity and its products with adjoints are known to {noise:.2g} only (round-off, or a "
    "network that computes in less than the precision of x, as with a time embedding in float32)"
)
FEW = 32  # dimensions: with more of them fixed steps take longer than adaptive ones
CHECKED = 1e-10  # tolerance of the solve that checks the determinant of a fixed-step solve
SOLVES = 6  # there and back: replicas, two tolerances


@dataclass(frozen=True)
class Reference:
    """An ideal gradient.

    Attributes
    ----------
    gradient, endpoint : (B, *event), g* and Phi_{t,1}(x)
    tier : "exact", "certified" or "converged"
    error_bound : (B,), a bound of the relative L2 error of ``gradient``
    diagnostics : (B,) tensors of integrated gradients: "tolerances", "round_trip" and "round_off", the parts of the
        bound before their safety factors; where certified also "determinant", the residual of the identity over the
        size of the log-densities (over 1 where they are smaller). Of exact ones: "condition" and "round_off"
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
    max_evaluations: int | None = None,
    progress: Progress | None = None,
) -> Reference:
    """Compute the ideal gradient at states x (B, *event), float32 or float64, and times t (float or (B,)).

    The gradient is that of the flow as given: a wrapper's ``t_max`` below 1 changes the flow, and its gradient too.

    Parameters
    ----------
    flow, loss : as the estimators take them
    tolerance : relative tolerance of the finer integration, where there is no exact map; by default the least that
        the dtype of x allows, 1e-13 for float64 and 1.2e-5 for float32, or more where the flow's own noise needs it
    max_error : the largest relative error bound that counts as a reference; by default 1e-6 for float64 and 1.2e-3 for
        float32
    max_evaluations : the most evaluations of the flow (on the whole batch) for the integration, by default 100,000
    progress : called during the integration with the share that is done, in [0, 1], and the evaluations so far

    Returns
    -------
    Reference
        With its tier and error bound.

    Raises
    ------
    TypeError
        For arguments of another kind.
    ValueError
        For x, t or a loss that the estimators refuse, for x in half precision, and for a tolerance or a number of
        evaluations out of range.
    CertificationError
        If the flow is not deterministic, its noise is too large for the tolerance, the integration breaks down or takes
        more than ``max_evaluations``, the bound exceeds ``max_error``, or the determinant identity fails. The message
        names the cause and the remedy.
    """
    x, t = checks.arguments(flow, loss, x, t)
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"x must be float32 or float64 for a reference, got {x.dtype}: its round-off is too large")
    least = max(LEAST_TOLERANCE, 100 * torch.finfo(x.dtype).eps)
    tolerance = None if tolerance is None else checks.number("tolerance", tolerance)
    max_error = max(MAX_ERROR, 100 * least) if max_error is None else checks.number("max_error", max_error)
    if not max_error > 0:
        raise ValueError(f"max_error must be positive, got {max_error}")
    if tolerance is not None and not least <= tolerance < 1e-3:
        raise ValueError(f"tolerance must lie in [{least:.3g}, 1e-3) for {x.dtype}, got {tolerance}")
    limit = MAX_EVALUATIONS if max_evaluations is None else checks.count("max_evaluations", max_evaluations)
    budget = Budget(limit, SOLVES, progress)
    with checks.passed_door():
        return (
            _exact(flow, loss, x, t, max_error)
            if isinstance(flow, HasExactMap)
            else _integrated(Problem(flow, loss, x, t), tolerance, least, max_error, budget)
        )


def _exact(flow: HasExactMap, loss: Loss, x: Tensor, t: Tensor, max_error: float) -> Reference:
    def gradient(x: Tensor, t: Tensor) -> Tensor:
        endpoint, pull = flow.exact_endpoint_vjp(x, t)
        return pull(value_and_gradient(loss, endpoint)[1])

    endpoint, pull = flow.exact_endpoint_vjp(x, t)
    loss_gradient = value_and_gradient(loss, endpoint)[1]
    value = pull(loss_gradient)
    # Round-off acts like a perturbation of x, t and the endpoint by a few eps; finite differences tell what that does.
    h = EPS**0.5
    signs = torch.where(torch.arange(x.numel()).reshape(x.shape) % 2 == 0, 1.0, -1.0).to(x)
    moved = gradient(x * (1 + h * signs), t) - value, gradient(x, t * (1 - h)) - value
    stiffness = value_and_gradient(loss, endpoint * (1 + h))[1] - loss_gradient
    condition = torch.stack([relative(m, value) for m in (*moved, pull(stiffness))]).sum(0) / h
    generator = torch.Generator().manual_seed(0)
    draws = [perturbed_gradient(loss, endpoint, generator) - loss_gradient for _ in range(adjoint_solves.REPLICAS)]
    round_off = torch.stack([relative(pull(v), value) for v in draws]).amax(0)
    bound = SAFETY * EPS * (1 + condition) + ROUND_OFF * round_off
    parts = {"condition": EPS * condition, "round_off": round_off}
    _check_bound(bound, parts, max_error)
    return Reference(value, endpoint, "exact", bound, parts)


def _integrated(problem: Problem, wanted: float | None, least: float, max_error: float, budget: Budget) -> Reference:
    if not adjoint_solves.repeats(problem, budget):
        raise CertificationError(
            "the flow is not deterministic: two evaluations at the same state and time differ. Call .eval() on the "
            "network (dropout and batch norms in training mode draw or depend on the batch), and seed what is random"
        )
    loose = max(adjoint_solves.LOOSE, 10 * (wanted or least))
    replicas = adjoint_solves.replicas(problem, loose, budget)
    _check_bound(ROUND_OFF * replicas.round_off, {"round_off": replicas.round_off}, max_error)
    tolerance = _tolerance(wanted, least, replicas.noise)
    if (found := _doubled(problem, replicas, tolerance, max_error, budget)) is not None:
        return found
    _foresee(budget, loose, tolerance)
    coarse = adjoint_solves.solve(problem, 10 * tolerance, MAX_STEP, budget, with_density=False)
    fine = adjoint_solves.solve(problem, tolerance, MAX_STEP / 2, budget, with_density=True)
    parts = {
        "tolerances": relative(fine.gradient - coarse.gradient, fine.gradient),
        "round_trip": fine.round_trip,
        "round_off": replicas.round_off,
    }
    bound = 2 * parts["tolerances"] + parts["round_trip"] + SAFETY * torch.finfo(problem.x.dtype).eps
    bound = bound + ROUND_OFF * parts["round_off"]
    if fine.log_det is not None:
        parts["determinant"] = _determinant(problem, fine.endpoint, fine.log_det, tolerance)
    _check_bound(bound, parts, max_error, noise=replicas.noise if tolerance > (wanted or least) else None)
    tier = "converged" if fine.log_det is None else "certified"
    return Reference(fine.gradient, fine.endpoint, tier, bound, parts)


def _doubled(
    problem: Problem, replicas: Replicas, tolerance: float, max_error: float, budget: Budget
) -> Reference | None:
    """Return the reference by fixed steps; None where a flow has none, or the bound or the determinant is not met."""
    if problem.density is None or problem.x[0].numel() > FEW:
        return None
    found = doubled_solves.solve(problem, replicas.mesh, tolerance, budget)
    if found is None:
        return None
    parts = {"tolerances": found.difference, "round_off": replicas.round_off}
    bound = 2 * found.difference + SAFETY * torch.finfo(problem.x.dtype).eps + ROUND_OFF * replicas.round_off
    if not bool((bound <= max_error).all()):
        return None
    budget.before = budget.spent
    _, volume = adjoint_solves.forth(problem, with_density=True, tolerance=CHECKED, max_step=MAX_STEP, budget=budget)
    residual, size = _residual(problem, found.endpoint, volume + problem.log_volume)
    if not _agrees(residual, size, tolerance):
        return None
    parts["determinant"] = residual / size.clamp_min(1.0)
    return Reference(found.gradient, found.endpoint, "certified", bound, parts)


def _tolerance(wanted: float | None, least: float, noise: float) -> float:
    """Return the finer solve's tolerance; raises ``CertificationError`` for one that the flow's noise forbids."""
    lowest = 2 * noise / NOISE_STEPS
    if wanted is None:
        return min(max(least, lowest), 1e-3)
    if wanted < lowest:
        raise CertificationError(
            f"tolerance = {wanted:.3g} is out of reach by {NOISY.format(noise=noise)}. Pass a tolerance of at least "
            f"{lowest:.2g} with a max_error to match, or compute in float64 throughout"
        )
    return wanted


def _foresee(budget: Budget, loose: float, tolerance: float) -> None:
    """Refuse at once if the coming solves would take several times the rest of the budget.

    A solver of order eight takes (loose / tolerance)^(1/8) times the steps of a loose one, and there are four solves,
    of several evaluations at a time, for the replicas' two.

    Raises
    ------
    CertificationError
        With the number of evaluations.
    """
    expected = 2 * budget.spent / (adjoint_solves.REPLICAS + 1) * (loose / tolerance) ** (1 / 8)
    budget.foresee(expected, f"the reference at tolerance {tolerance:.2g}")


def _determinant(problem: Problem, endpoint: Tensor, log_det: Tensor, tolerance: float) -> Tensor:
    """Return the residual of the identity relative to the log-densities; ``CertificationError`` if it fails."""
    residual, size = _residual(problem, endpoint, log_det)
    if not _agrees(residual, size, tolerance):
        raise CertificationError(
            f"log|det DPhi| and log p_t(x) - log p_1(Phi(x)) differ by {float(residual.max()):.3g}, where the log "
            f"densities are of size {float(size.max()):.3g}: the density and the velocity do not belong to each other, "
            "or the integration failed"
        )
    return residual / size.clamp_min(1.0)


def _residual(problem: Problem, endpoint: Tensor, log_det: Tensor) -> tuple[Tensor, Tensor]:
    """Return by how much the determinant identity fails, (B,), and the size of the log-densities, (B,)."""
    assert isinstance(problem.flow, HasDensity)
    before, after = problem.flow.log_prob(problem.x, problem.t), problem.flow.log_prob(endpoint, 1.0)
    return (log_det - (before - after)).abs(), before.abs() + after.abs()


def _agrees(residual: Tensor, size: Tensor, tolerance: float) -> bool:
    return bool((residual < DETERMINANT + max(DETERMINANT_SHARE, 100 * tolerance) * size).all())


def _check_bound(bound: Tensor, parts: Mapping[str, Tensor], max_error: float, noise: float | None = None) -> None:
    """Refuse a bound (B,) above ``max_error``.

    ``noise`` is that of the flow where it set the tolerance.

    Raises
    ------
    CertificationError
        With the largest part of the bound, and the remedy.
    """
    bound = bound.nan_to_num(torch.inf)
    worst = int(bound.argmax())
    if bool(bound[worst] <= max_error):
        return
    sizes = {name: float(part[worst].nan_to_num(torch.inf)) for name, part in parts.items() if name in CAUSES}
    largest = max(sizes, key=lambda name: sizes[name])
    cause = CAUSES[largest]
    if noise is not None and largest != "round_off":
        cause = f"{NOISY.format(noise=noise)}; compute in float64 throughout"
    precision = "" if bound.dtype == torch.float64 else "; states, flow and loss in float64 are more accurate"
    raise CertificationError(
        f"the ideal gradient's relative error bound is {float(bound[worst]):.3g}, above max_error = {max_error:.3g}, "
        f"in {int((bound > max_error).sum())} of {len(bound)} samples. Its largest part, {sizes[largest]:.2g}, is "
        f"{cause}. A larger max_error takes the gradient as it is{precision}"
    )
