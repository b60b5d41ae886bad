"""Errors of the dial's gradients at the states where guidance uses them, along guided trajectories.

The states are those at which a guided sampler took its gradients. The reference is a fine solve, compared with one of
half the steps (``analysis.converged``); where the two differ by more than ``MAX_BOUND``, the state has no reference,
and its errors are missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from analysis import errors
from analysis.converged import converged_gradients
from analysis.flow import Flow, Pullback
from analysis.gradients import ESTIMATORS
from analysis.guidance import SAMPLERS
from analysis.losses import Loss
from analysis.paths import Readout
from real_models.restoration.methods import DIAL

TIMES = (0.2, 0.5, 0.8)
IMAGES, STEPS = 6, 12
MAX_BOUND = 0.1  # a twentieth and less of the errors that are compared: the finer solve errs by a fifteenth of it


class Recorder(Flow):
    """A flow that records, by time, the states (B, *event) at which a vector-Jacobian product is first requested."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self.path = flow, flow.path
        self.event_shape, self.dtype = flow.event_shape, flow.dtype
        self.states: dict[float, Tensor] = {}

    def select_rows(self, rows: Tensor) -> Flow:
        """Return the flow of the samples with indices ``rows`` (C,), which records nothing."""
        return self.flow.select_rows(rows)

    def predict(self, x: Tensor, t: Tensor, readout: Readout) -> Tensor:
        """Return the flow's readout."""
        return self.flow.predict(x, t, readout)

    def predict_vjp(self, x: Tensor, t: Tensor, readout: Readout) -> tuple[Tensor, Pullback]:
        """Record the state, and return the flow's readout and its pullback."""
        self.states.setdefault(float(t), x.detach())
        return self.flow.predict_vjp(x, t, readout)


def visited(flow: Flow, loss: Loss, x0: Tensor, times: Sequence[float], **options: Any) -> dict[float, Tensor]:
    """Return states {time: (B, *event)} of guidance with greedy gradients, at its times nearest to ``times``."""
    recorder = Recorder(flow)
    SAMPLERS["posterior_guidance"](recorder, loss, x0, **options)
    taken = torch.tensor(list(recorder.states), dtype=torch.float64)
    nearest = (taken - torch.tensor(times, dtype=torch.float64)[:, None]).abs().argmin(1)
    return {t: recorder.states[t] for t in taken[nearest].tolist()}


def rows(flow: Flow, loss: Loss, states: dict[float, Tensor], steps: int = STEPS) -> Iterator[dict[str, Any]]:
    """Yield a row per estimator of the dial, time and state: error of its gradient, and the reference's bound."""
    for t, x in states.items():
        (reference,) = converged_gradients(flow, loss, x, [t], steps=steps).references
        bound = reference.error_bound
        truth = torch.where((bound <= MAX_BOUND)[:, None], reference.gradient, torch.nan)
        for name, variant in DIAL.items():
            gradient = ESTIMATORS[variant.estimator](flow, loss, x, t, **dict(variant.options)).gradient
            values = zip(errors.relative_error(gradient, truth).tolist(), bound.tolist(), strict=True)
            for i, (value, limit) in enumerate(values):
                yield {"estimator": name, "t": t, "order": i, "value": value, "reference_bound": limit}
