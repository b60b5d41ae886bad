"""The ideal gradients of an audit: adaptive solves, and beside them RK4 solves whose steps are doubled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from analysis import canonical, errors, reference, solvers
from analysis.audit.refusal import AuditError
from analysis.audit.subject import AuditStates
from analysis.flow import Flow, HasDensity, HasExactMap
from analysis.losses import Loss, value_and_gradient
from analysis.paths import expand
from analysis.solvers.checkpointing import differentiate

# The truth must be known this much better than the error that is asked for, and its tolerance be finer still: where a
# flow contracts, the backward solve loses digits (two or three of them on a network of images with constant borders).
MARGIN, FINER = 10, 10_000
FEWEST, MOST = 8, 512  # steps of the fixed-step solve


@dataclass(frozen=True)
class Truth:
    """Ideal gradients (B, *event) in float64, the origin of each, and a mask (B,) of the samples that have one."""

    gradient: Tensor
    usable: Tensor
    tier: str
    dtype: str
    bound: Tensor
    doublings: list[dict[str, Any]]


def ideal_gradients(states: AuditStates, t: float, limit: float) -> Truth:
    """Return ideal gradients, NaN where their error may exceed ``limit``; ``AuditError`` where most of them may."""
    loss = states.loss
    flow, x = _widest(states, t)
    fine, rows, settled = _doubled(flow, loss, x, t, limit)
    steps = rows[-1]["steps"]
    if not isinstance(flow, HasExactMap | HasDensity):  # then nothing else vouches for it
        _require(settled, limit, f"the last doubling, to {steps} RK4 steps, moves it by {rows[-1]['value']:.2g}")
    least = max(reference.LEAST_TOLERANCE, 100 * torch.finfo(x.dtype).eps)
    try:
        computed = reference.ideal_gradient(flow, loss, x, t, tolerance=max(limit / FINER, least), max_error=math.inf)
    except reference.CertificationError as error:
        raise AuditError(f"the fine solve does not converge: {error}") from error
    usable, apart = computed.error_bound <= limit, errors.relative_error(fine, computed.gradient)
    if computed.tier == "converged":
        usable &= settled & (apart <= 2 * limit)
    bound, distance = float(computed.error_bound.median()), float(apart.median())
    _require(usable, limit, f"the adaptive solve is good to {bound:.2g}, and {distance:.2g} from {steps} RK4 steps")
    rows.append({"metric": "distance_to_reference", "steps": steps} | errors.summary(apart[usable].cpu()))
    gradient = torch.where(expand(usable, x) > 0, computed.gradient, math.nan).double().cpu()
    return Truth(gradient, usable.cpu(), computed.tier, str(x.dtype)[6:], computed.error_bound.double().cpu(), rows)


def _require(usable: Tensor, limit: float, why: str) -> None:
    if 2 * int(usable.sum()) < len(usable):
        raise AuditError(
            f"the fine solve does not converge: in {int((~usable).sum())} of {len(usable)} states the gradient is not "
            f"known to {limit:.2g} (medians: {why}); the flow may be stiff or not continuous"
        )


def _widest(states: AuditStates, t: float) -> tuple[Flow, Tensor]:
    """Return the float64 copy of the flow and states, or both unchanged if the copy or the loss does not run."""
    try:
        states.reference_flow.velocity(states.x.double(), t)
        value_and_gradient(states.loss, states.x.double())
    except (ValueError, RuntimeError, TypeError):
        return states.flow, states.x
    return states.reference_flow, states.x.double()


def _doubled(flow: Flow, loss: Loss, x: Tensor, t: float, limit: float) -> tuple[Tensor, list[dict[str, Any]], Tensor]:
    """Double the steps of an RK4 solve until gradients move by less than ``limit``; return rows and a mask as well."""
    steps, fine, rows = FEWEST, _fine(flow, loss, x, t, FEWEST), []
    settled = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    while steps < MOST and not bool(settled.all()):
        steps, coarse = 2 * steps, fine
        fine = _fine(flow, loss, x, t, steps)
        change = errors.relative_error(coarse, fine)
        rows.append({"metric": "change_by_doubling", "steps": steps} | errors.summary(change.cpu()))
        settled = change <= limit
    return fine, rows, settled


def _fine(flow: Flow, loss: Loss, x: Tensor, t: float, steps: int) -> Tensor:
    """Return the end-to-end gradient (B, *event) of an RK4 solve in canonical time and scale."""
    view = canonical.view(flow, torch.tensor(t, dtype=torch.float64))
    plan = solvers.plan("rk4", view.flow.path, solvers.uniform_grid(view.begin, view.end, steps))
    endpoint, pull = differentiate(view.flow, view.enter(x), plan, "checkpoint")
    if not bool(torch.isfinite(endpoint).all()):
        return torch.full_like(x, math.nan)
    return view.enter(view.leave(pull(value_and_gradient(loss, view.leave(endpoint))[1])))
