"""The flow of molecules with flat states (B, 8 N), as the claims have them; with molecules of 9 atoms.

Two claims need whole Jacobians, which a large molecule would make large.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from analysis.flow import Flow, PredictionFlow
from analysis.losses import Loss
from analysis.subject import Subject
from real_models.molecules import subject as whole
from real_models.molecules.network import TYPES

ATOMS = 9


class FlatVelocity(nn.Module):
    """A flow's velocity of flat states, x (B, 8 N) and t (B,) to (B, 8 N)."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the velocity of flat states."""
        readout = self.flow.path.readout("velocity", t)
        return self.flow.predict(x.unflatten(1, (ATOMS, 3 + TYPES)), t, readout).flatten(1)


@dataclass(frozen=True)
class FlatLoss:
    """A loss of events, for flat states (B, 8 N)."""

    loss: Loss
    event_shape: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """Return the losses (B,)."""
        return self.loss(x.unflatten(1, self.event_shape))


def subject(problem: str, path: str, dtype: str, device: str) -> Subject:
    """Make a subject of ``real_models.molecules.subject`` with states (B, 72) of molecules of 9 atoms."""
    one = whole.subject(problem, path, dtype, device, ATOMS)
    shape = (ATOMS, 3 + TYPES)

    def flat(flow: Flow) -> PredictionFlow:
        made = PredictionFlow(FlatVelocity(flow), flow.path, "velocity")
        made.event_shape, made.dtype = (shape[0] * shape[1],), flow.dtype
        return made

    return Subject(
        flat(one.flow),
        flat(one.reference_flow),
        lambda times, n, generator: one.states(times, n, generator).flatten(1),
        lambda repeats, n, generator: FlatLoss(one.loss(repeats, n, generator), shape),
    )
