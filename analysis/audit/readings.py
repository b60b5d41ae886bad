"""The ways to read a model: its path, what it predicts, the direction of its time, and the scale of the data.

All combinations are compared by their misfit on the same samples of the data, as ``analysis.audit.misfit`` has it. The
scale is read off the samples of a short solve of the model as it is read otherwise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from analysis.audit.misfit import STEPS, Moments, Taken, misfit_of_flow, misfits, reaches, short_solve
from analysis.audit.model import DIRECTIONS, finite_rows, with_function
from analysis.flow import Flow, Prediction, PredictionFlow, usable_times
from analysis.paths import PATHS, PREDICTIONS, AffinePath
from analysis.probe import select_rows

RESCALED = 1.5  # a standard deviation of samples that is this many times off is not that of the data
SHIFTED = 0.5  # a mean that is off by this many standard deviations is not that of the data
MOVED = 0.1  # deviations by which the data must be moved for that to be tried
NEARBY = (0.8, 1.0, 1.25)  # factors of a scale, as samples of a short solve give it roughly
FEW, FEW_STEPS, FEW_KEPT = 64, 12, 3  # samples and steps of a first look at all scales, and readings looked at again


@dataclass(frozen=True)
class Reading:
    """One way to read a model, and its misfit on the data.

    Attributes
    ----------
    path, prediction : as ``Audited`` has them
    turned : whether time runs the other way than was declared
    flipped : whether the sign of the declared function's values is changed, as a velocity's is where time is turned
    divisor, shift : the data are read as (x - shift) / divisor
    misfit : squared error of the target prediction, relative to that of a straight line
    """

    path: AffinePath
    prediction: str
    turned: bool = False
    flipped: bool = False
    divisor: float = 1.0
    shift: float = 0.0
    misfit: float = math.inf

    def changes(self, other: Reading) -> int:
        """Return in how many respects two readings differ."""
        names = ("path", "prediction", "turned", "divisor", "shift")
        return sum(getattr(self, name) != getattr(other, name) for name in names)

    def times_better(self, other: Reading) -> float:
        """Return by which factor the misfit is less than another's."""
        return other.misfit / self.misfit if math.isfinite(self.misfit) else 0.0


class AsRead:
    """A model's function as a reading takes it; it is not asked at samples that are not finite, which stay so."""

    def __init__(self, function: Prediction, reading: Reading) -> None:
        self.function, self.reading = function, reading

    def __call__(self, x: Tensor, t: Tensor) -> Any:
        """Return the prediction at time t from noise to data."""
        finite = finite_rows(x).reshape(-1, *[1] * (x.ndim - 1))
        value = self.function(torch.where(finite, x, 0.0), 1 - t if self.reading.turned else t)
        return torch.where(finite, -value if self.reading.flipped else value, math.nan)

    def select_rows(self, rows: Tensor) -> AsRead:
        """Return the function of the samples ``rows`` (C,)."""
        return AsRead(select_rows(self.function, rows), self.reading)


@dataclass(frozen=True)
class Compared:
    """A model, and the samples of the data and noise (n, *event) on which its readings are compared.

    Attributes
    ----------
    flow : the model as it is declared
    directions : the directions of time that it may be declared with; both for a flow, which does not say
    """

    flow: Flow
    directions: Sequence[str]
    x1: Tensor
    x0: Tensor

    def declared(self) -> Reading:
        """Return the declared reading, without its misfit."""
        flow = self.flow
        return Reading(flow.own, flow.prediction) if isinstance(flow, PredictionFlow) else Reading(flow.path, "target")

    def readings(self) -> tuple[Reading, list[Reading]]:
        """Return the declared reading, and those with another path, prediction or direction of time."""
        flow, declared = self.flow, self.declared()
        if not isinstance(flow, PredictionFlow):
            return replace(declared, misfit=misfit_of_flow(flow, self.x1, self.x0)), []
        others = [replace(reading, misfit=misfit) for reading, misfit in self._every(flow) if reading != declared]
        own = misfits(flow, flow.own, False, self.x1, self.x0)
        return replace(declared, misfit=own[flow.prediction, False]), others

    def _every(self, flow: PredictionFlow) -> Iterator[tuple[Reading, float]]:
        paths = dict.fromkeys([flow.own, *(make() for make in PATHS.values())])
        for path, turned in itertools.product(paths, (False, True)):
            by_kind = self._misfits(flow, path, turned)
            for prediction in PREDICTIONS:
                for flipped in self._signs(flow.prediction, prediction, turned):
                    yield Reading(path, prediction, turned, flipped), by_kind.get((prediction, flipped), math.inf)

    def _misfits(self, flow: PredictionFlow, path: AffinePath, turned: bool) -> Mapping[Taken, float]:
        """Return the misfits of a path that is not the declared one, or none where they cannot be compared."""
        if not reaches(path, self.x1):
            return {}
        try:
            return misfits(flow, path, turned, self.x1, self.x0)
        except (ValueError, RuntimeError):  # a time or a state that the model does not take if read in this way
            return {}

    def _signs(self, declared: str, prediction: str, turned: bool) -> set[bool]:
        """Return whether the declared function's sign is changed: a velocity of turned time has the other one."""
        backward = {direction != DIRECTIONS[0] for direction in self.directions}
        return {(declared == "velocity" and b) != (prediction == "velocity" and b != turned) for b in backward}

    def rescaled(self, readings: Sequence[Reading]) -> list[Reading]:
        """Return the first reading, and others that fit best, at the scale of their samples, about zero and a mean."""
        rows = torch.arange(min(FEW, len(self.x1)), device=self.x1.device)
        few = replace(self, flow=self.flow.select_rows(rows), x1=self.x1[rows], x0=self.x0[rows])
        looked = [best for reading in readings for best in sorted(few._scaled(reading, FEW_STEPS), key=_misfit)[:1]]
        again = [replace(r, divisor=1.0, shift=0.0) for r in sorted(looked, key=_misfit)[:FEW_KEPT]]
        again += [readings[0]] if all(r.changes(readings[0]) for r in again) else []
        return [scaled for reading in again for scaled in self._scaled(reading, STEPS, NEARBY)]

    def _scaled(self, reading: Reading, steps: int, factors: Sequence[float] = (1.0,)) -> Iterator[Reading]:
        samples, data = self.samples(reading, steps), Moments.of(self.x1)
        if samples is None or not 0 < (sampled := Moments.of(samples)).deviation < math.inf:
            return
        measured = data.deviation / sampled.deviation
        if abs(math.log(measured)) < math.log(RESCALED):
            return
        for divisor in (factor * measured for factor in factors):
            moved = data.mean - divisor * sampled.mean
            for shift in (0.0, moved) if abs(moved) > MOVED * data.deviation else (0.0,):
                yield self._with_misfit(replace(reading, divisor=divisor, shift=shift))

    def _with_misfit(self, reading: Reading) -> Reading:
        x1 = (self.x1 - reading.shift) / reading.divisor
        if not reaches(reading.path, x1):
            return replace(reading, misfit=math.inf)
        try:
            return replace(reading, misfit=misfit_of_flow(self.read(reading), x1, self.x0))
        except (ValueError, RuntimeError):
            return replace(reading, misfit=math.inf)

    def read(self, reading: Reading) -> Flow:
        """Return the flow of the model as it is read."""
        flow = self.flow
        if not isinstance(flow, PredictionFlow):
            return flow
        if (reading.path, reading.prediction, reading.turned) == (flow.own, flow.prediction, False):
            return with_function(flow, AsRead(flow.function, reading))
        first, last = usable_times(reading.path, reading.prediction)
        function = AsRead(flow.function, reading)
        return PredictionFlow(function, reading.path, reading.prediction, first, last, time_dtype=flow.time_dtype)

    def samples(self, reading: Reading, steps: int = STEPS) -> Tensor | None:
        """Return samples of a short solve of the model as it is read, or None where it cannot be solved."""
        try:
            return short_solve(self.read(reading), self.x0, steps)
        except (ValueError, RuntimeError):
            return None

    def like_the_data(self, samples: Tensor | None) -> bool:
        """Return whether samples have about the mean and the standard deviation of the data."""
        if samples is None or not 0 < (sampled := Moments.of(samples)).deviation < math.inf:
            return False
        data = Moments.of(self.x1)
        near = abs(sampled.mean - data.mean) < SHIFTED * data.deviation
        return near and abs(math.log(sampled.deviation / data.deviation)) < math.log(RESCALED)


def _misfit(reading: Reading) -> float:
    return reading.misfit
