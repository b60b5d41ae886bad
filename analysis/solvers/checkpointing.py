r"""Four strategies to differentiate a chain of solver steps, which trade memory for evaluations.

With n steps, and s the bytes of a state:

- ``store`` (``solvers.solve_vjp``): every step's pullback is stored; no recomputation, memory n times that of one step.
- ``checkpoint``: every state is stored and each step recomputed once; memory n s and one step.
- ``recursive``: at most ``slots`` states are stored, placed by the optimal binomial schedule (Griewank & Walther 2000,
  Algorithm 799); memory slots * s and one step, with the least recomputation that so many slots allow.
- ``reversible``: a different map, which any one-step method yields and which can be inverted algebraically
  (McCallum & Foster 2024, arXiv 2410.11648), so that no state is stored: with Psi_h(x) the method's increment,

  .. math:: y' = \lambda y + (1 - \lambda) z + \Psi_h(z), \qquad z' = z - \Psi_{-h}(y'),

  started from y = z = x. Its inverse divides by lambda each step: round-off grows like lambda^{-n}.

The first three give the same numbers up to round-off, as each step's product is the same. So does a flow's own fused
solve, if it has one (``Flow.solve_vjp``), which is used if no strategy is chosen.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from analysis import checks
from analysis.flow import Flow, Pullback
from analysis.norms import norms
from analysis.plan import StepPlan
from analysis.solvers.solve import Carry, CarryPullback, advance, advance_vjp, begin, solve_vjp, step, step_vjp

COUPLING = 0.99
RETURN, ORIGIN = 1e-3, 0.01  # how far a reversed solve may end from x, and the least norm of x that this is relative to


def recursive(flow: Flow, x: Tensor, plan: StepPlan, slots: int) -> tuple[Tensor, Pullback]:
    """Return the end state (B, *event) and the pullback, storing at most ``slots`` states besides the current one."""
    checks.count("slots", slots)
    carry = begin(x, plan)
    splits = _split_points(len(plan), slots)
    stored: list[tuple[int, Carry]] = []
    for i in range(len(plan)):
        if i in splits:
            stored.append((i, carry))
        carry = advance(flow, carry, plan[i])

    def pullback(v: Tensor) -> Tensor:
        if not stored:
            raise RuntimeError("a pullback that recomputes frees its states as it goes, and can be used once")
        cotangents, end = begin(v, plan), len(plan)  # the past of the last step has no cotangent
        for k in reversed(range(len(stored))):
            start, state = stored.pop()
            cotangents = _reverse(flow, state, plan, start, end, cotangents, slots - k)
            end = start
        return cotangents[0]

    return carry[0], pullback


def checkpoint(flow: Flow, x: Tensor, plan: StepPlan) -> tuple[Tensor, Pullback]:
    """Return the end state (B, *event) and the pullback, storing every state and recomputing every step once."""
    return recursive(flow, x, plan, len(plan))


def _split_points(n: int, slots: int) -> set[int]:
    """Return the steps before which the first sweep over n steps stores a state, by the binomial schedule."""
    points, start = {0}, 0
    for left in range(slots - 1, 0, -1):
        if n - start <= 1:
            break
        start += _advance_by(n - start, left + 1)
        points.add(start)
    return points


@functools.cache
def _advance_by(n: int, slots: int) -> int:
    """Choose how many of n steps to take before storing the next state, with ``slots`` left, this one included.

    With r the least number for which binom(slots + r, r) >= n, the optimal split leaves at most binom(slots - 1 + r, r)
    steps on the right.

    Returns
    -------
    int
        From 1 to n - 1.
    """
    repeats = 0
    while math.comb(slots + repeats, repeats) < n:
        repeats += 1
    right = min(math.comb(slots - 1 + repeats, repeats), n - 1)
    return n - right


def _reverse(flow: Flow, carry: Carry, plan: StepPlan, start: int, end: int, cotangents: Carry, slots: int) -> Carry:
    """Return the cotangents at ``start`` from those at ``end``, with ``carry`` the state at ``start`` in a slot."""
    while end - start > 1:
        middle = start + _advance_by(end - start, slots) if slots > 1 else end - 1
        state = carry
        for i in range(start, middle):
            state = advance(flow, state, plan[i])
        cotangents = _reverse(flow, state, plan, middle, end, cotangents, max(slots - 1, 1))
        end = middle
    pull: CarryPullback = advance_vjp(flow, carry, plan[start])[1]
    return pull(cotangents)


def reversible(
    flow: Flow, x: Tensor, forth: StepPlan, back: StepPlan, coupling: float = COUPLING
) -> tuple[Tensor, Pullback]:
    """Solve by the reversible form of a one-step solver.

    ``forth`` and ``back`` are the solver's plans on a grid of times and on the same times in falling order. The solve
    is refused if its reversal does not bring every sample back to its x within 1e-3 of its norm, as the method is then
    unstable at this step size. The norm counts as at least a hundredth of the path's own, sqrt(d (alpha^2 + sigma^2)).

    Returns
    -------
    tuple
        The end state (B, *event) and its pullback.

    Raises
    ------
    ValueError
        For a coupling outside (0, 1], a multistep solver, and an unstable solve.
    """
    if not 0 < checks.number("coupling", coupling) <= 1:
        raise ValueError(f"coupling must lie in (0, 1], got {coupling}")
    n = len(forth)
    y = z = x
    for i in range(n):
        y = coupling * y + (1 - coupling) * z + step(flow, z, forth[i]) - z
        z = z - (step(flow, y, back[n - 1 - i]) - y)
    if not bool(torch.isfinite(y).all() & torch.isfinite(z).all()):
        raise ValueError(f"solver has no stable reversible form with {n} steps: it overflows")

    least = ORIGIN * math.sqrt(x[0].numel()) * flow.path.radius(forth.times[0][0]).to(x.device)

    def pullback(v: Tensor) -> Tensor:
        start, gradient = _reverse_reversible(flow, (y, z), v, forth, back, coupling)
        _check_return(start, x, least, n)
        return gradient

    return y, pullback


def _check_return(start: Tensor, x: Tensor, least: Tensor, steps: int) -> None:
    """Raise ``ValueError`` unless each sample came back to x (B, *event), relative to its norm or ``least``."""
    size = norms(x)
    drift = norms(start - x) / torch.maximum(size, least.to(size))
    back = drift < RETURN
    if not bool(back.all()):
        raise ValueError(
            f"the reversible solver came back {float(drift.nan_to_num(math.inf).max()):.1e} away from x in {steps} "
            f"steps, too far in {int((~back).sum())} of {len(x)} samples: it is unstable here; take more steps, a "
            "larger coupling, or another way to save memory"
        )


def solve_all_vjp(flow: Flow, x: Tensor, plans: Sequence[StepPlan]) -> tuple[Tensor, Pullback]:
    """Solve one method's plans from x (plans, B, *event), by the flow's own fused solve if it has one.

    It agrees with ``solvers.solve_vjp`` plan by plan up to round-off.

    Returns
    -------
    tuple
        The ends (plans, B, *event) and their pullback.
    """
    if (fused := flow.solve_vjp(x, plans)) is not None:
        return fused
    ends, pulls = zip(*(solve_vjp(flow, state, plan) for state, plan in zip(x, plans, strict=True)), strict=True)
    return torch.stack(ends), lambda v: torch.stack([pull(w) for pull, w in zip(pulls, v, strict=True)])


STRATEGIES = ("store", "checkpoint", "recursive", "reversible")


def differentiate(
    flow: Flow, x: Tensor, plan: StepPlan, strategy: str | None = None, slots: int = 4
) -> tuple[Tensor, Pullback]:
    """Solve a plan from x (B, *event) under a checkpointing strategy.

    Parameters
    ----------
    strategy : "store", "checkpoint" or "recursive", with ``slots`` states; ``None`` for the flow's own fused solve,
        or "store" where it has none. ``reversible`` needs a second plan and is a function of its own.

    Raises ``ValueError`` for another strategy, and for ``slots`` below 1.

    Returns
    -------
    tuple
        The end (B, *event) and its pullback.

    Raises
    ------
    ValueError
        For another strategy, and for ``slots`` below 1.
    """
    if strategy is None:
        ends, pull = solve_all_vjp(flow, x[None], [plan])
        return ends[0], lambda v: pull(v[None])[0]
    if checks.known("strategy", strategy, STRATEGIES[:3]) == "store":
        return solve_vjp(flow, x, plan)
    return checkpoint(flow, x, plan) if strategy == "checkpoint" else recursive(flow, x, plan, slots)


def _reverse_reversible(
    flow: Flow, end: tuple[Tensor, Tensor], v: Tensor, forth: StepPlan, back: StepPlan, coupling: float
) -> tuple[Tensor, Tensor]:
    """Return the state from which the solve started, and the gradient there."""
    (y, z), by, bz = end, v, torch.zeros_like(v)
    n = len(forth)
    for i in reversed(range(n)):
        moved, pull = step_vjp(flow, y, back[n - 1 - i])
        z = z + (moved - y)
        by = by + bz - pull(bz)  # z' = z + y' - step(y')
        moved, pull = step_vjp(flow, z, forth[i])
        y = (y - (1 - coupling) * z - (moved - z)) / coupling
        bz = bz - coupling * by + pull(by)  # y' = coupling (y - z) + step(z)
        by = coupling * by
    return y, by + bz
