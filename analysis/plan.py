"""A plan: the coefficients of the steps of an explicit method, independent of the flow.

Stage i evaluates a readout of the flow at a linear combination of the step's start and of earlier evaluations; the
step's end is such a combination too. ``analysis.solvers`` makes plans from methods and applies them.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from analysis.paths import Readout

Row = tuple[Tensor | None, ...]


@dataclass(frozen=True, eq=False)
class StepPlan:
    """The coefficients of one step, or of n steps along a leading axis; each tensor is (), (B,), (n,) or (n, B).

    ``rows[i]`` combines (x, the ``history`` evaluations of the previous step, f_1, ..., f_i) into the state of stage i
    + 1; the last row gives the end of the step. ``None`` stands for a zero. If samples share their times, a coefficient
    may serve ``repeat`` consecutive samples: B is then their number over ``repeat``. A plan that is ``reused`` is the
    same object in every solve by its method on its times, so that what is made of it may be kept with it as the key.
    """

    times: tuple[Tensor, ...]
    readouts: tuple[Readout, ...]
    rows: tuple[Row, ...]
    history: int = 0
    repeat: int = 1
    reused: bool = False

    def __getitem__(self, i: int) -> StepPlan:
        rows = tuple(tuple(None if c is None else self._each(c[i]) for c in row) for row in self.rows)
        readouts = tuple(Readout(*(self._each(c[i]) for c in readout)) for readout in self.readouts)
        return StepPlan(tuple(self._each(t[i]) for t in self.times), readouts, rows, self.history)

    def _each(self, c: Tensor) -> Tensor:
        return c.repeat_interleave(self.repeat) if self.repeat > 1 else c

    def __len__(self) -> int:
        return len(self.times[0])
