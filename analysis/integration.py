"""Adaptive integration of batches of tensors, SciPy's DOP853, within a budget of evaluations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.integrate import DOP853
from torch import Tensor

Rate = Callable[[Tensor, list[Tensor]], list[Tensor]]
Progress = Callable[[float, int], None]


class CertificationError(RuntimeError):
    """The ideal gradient could not be computed to a useful bound."""


@dataclass
class Budget:
    """The evaluations that a reference may spend, and its progress.

    Attributes
    ----------
    limit, spent : evaluations of the flow on the whole batch, one with its pullback counted as one
    solves, finished : integrations that the reference takes, and those that are done
    before : evaluations spent before the present integration
    progress : called after every step with the share of the work that is done, in [0, 1], and with ``spent``
    """

    limit: int
    solves: int
    progress: Progress | None = None
    spent: int = 0
    finished: int = 0
    before: int = 0

    def spend(self, s: float, count: int) -> None:
        """Add ``count`` evaluations.

        ``s`` is the position of the integration, for the error message.

        Raises
        ------
        CertificationError
            If they exceed the limit.
        """
        self.spent += count
        if self.spent > self.limit:
            raise CertificationError(
                f"the reference needs more than max_evaluations = {self.limit} evaluations of the flow: integration "
                f"{self.finished + 1} of {self.solves} is at s = {s:.3g} in [0, 1]. {REMEDIES}"
            )

    def foresee(self, expected: float, what: str) -> None:
        """Refuse what is expected to take several times the evaluations that were left when it began.

        Raises
        ------
        CertificationError
            If it is.
        """
        if expected > FORESEEN * (self.limit - self.before):
            raise CertificationError(
                f"{what} would take about {expected:.2g} evaluations of the flow, and {self.limit - self.before} of "
                f"max_evaluations = {self.limit} were left. {REMEDIES}"
            )

    def report(self, share: float) -> None:
        """Report that a share of the present integration is done.

        Raises
        ------
        CertificationError
            If the whole of it is foreseen to exceed the limit by far.
        """
        here = self.spent - self.before
        if here >= TELLING:
            self.foresee(here / share, f"integration {self.finished + 1} of {self.solves} of the reference")
        if self.progress is not None:
            self.progress((self.finished + share) / self.solves, self.spent)

    def finish(self) -> None:
        """Count the present integration as done."""
        self.finished, self.before = self.finished + 1, self.spent


FORESEEN = 3  # by so many times may the foreseen evaluations exceed those left
TELLING = 5000  # evaluations in an integration, from which the rest of it is foreseen: not from a short layer
REMEDIES = (
    "Where the flow is stiff, or is not smooth in x and t, a larger tolerance (with a larger max_error) ends sooner; "
    "a network computes in float64 throughout, its time embedding too, and in eval mode; max_evaluations allows more"
)


def integrate(
    rate: Rate,
    state: list[Tensor],
    start: float,
    end: float,
    *,
    tolerance: float,
    max_step: float,
    budget: Budget,
    evaluations: int = 1,
    record: Callable[[float, list[Tensor]], None] | None = None,
) -> list[Tensor]:
    """Integrate tensors jointly from ``start`` to ``end``.

    Parameters
    ----------
    rate : (s, tensors) -> the tensors' derivatives in s
    tolerance : relative and absolute, of the root mean square over all entries
    evaluations : evaluations of the flow that one call of ``rate`` takes
    record : called after every step with s and the state

    Returns
    -------
    list
        The tensors at ``end``.

    Raises
    ------
    CertificationError
        If the state leaves the finite numbers, the step gets too small or the budget is spent.
    """
    shapes, sizes = [p.shape for p in state], [p.numel() for p in state]
    dtype, device = state[0].dtype, state[0].device

    def split(y: np.ndarray) -> list[Tensor]:
        parts = torch.from_numpy(y).split(sizes)
        return [p.reshape(shape).to(device, dtype) for p, shape in zip(parts, shapes, strict=True)]

    def fun(s: float, y: np.ndarray) -> np.ndarray:
        budget.spend(s, evaluations)
        rates = rate(torch.tensor(s, dtype=torch.float64), split(y))
        return torch.cat([r.detach().reshape(-1).double().cpu() for r in rates]).numpy()

    y = torch.cat([p.detach().reshape(-1).double().cpu() for p in state]).numpy()
    solver = DOP853(fun, start, y, end, rtol=tolerance, atol=tolerance, max_step=max_step)
    while solver.status == "running":
        message = solver.step()
        if solver.status == "failed" or not np.isfinite(solver.y).all():
            raise CertificationError(f"the reference integration failed at s = {solver.t:.6g}: {message}. {REMEDIES}")
        budget.report(abs(solver.t - start) / abs(end - start))
        if record is not None:
            record(solver.t, split(solver.y))
    budget.finish()
    return split(solver.y)
