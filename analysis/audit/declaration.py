"""Does a model do on the data what was declared of it: path, prediction, direction of time, scale of the data?

Every other way to read the model is compared with the declared one by its misfit on the data, as
``analysis.audit.misfit`` has it; the scale of the data is read off the samples of a short solve.

Thirty networks were trained to measure what that is worth: 15 declarations (three data sets, five paths, four
predictions, both directions of time), each with 2000 steps and with 300. The thresholds were set on these same
networks. As declared their misfit was 0.27 to 1.07, and none was doubted. Wrongly declared in one respect, in 180 ways
each (paths, predictions, directions, and scales of 0.1, 0.5, 2 and 10), those with 2000 steps were refused 157 times,
all but once with what is true, doubted 20 times, and passed 3 times; those with 300 steps 116 times, all with what is
true, 56 and 8 times.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from analysis.audit.misfit import STEPS, Moments, misfit_of_flow, misfits, short_solve
from analysis.audit.model import DIRECTIONS
from analysis.audit.subject import Audit
from analysis.flow import Flow, PredictionFlow
from analysis.paths import PATHS, AffinePath

STATES = 256
DOUBTED, REFUSED, CERTAIN = 1.06, 1.15, 1.5  # by how many times another reading fits better
SEES, WORST = 0.98, 1.2  # a misfit that takes more than the data's moments; one that no model of the data has
RESCALED = 1.5
NAMES = {"velocity": "the velocity", "target": "the data", "source": "the noise", "score": "the score"}


@dataclass(frozen=True)
class Reading:
    """One way to read a model, and its misfit on the data.

    Attributes
    ----------
    path, prediction : as ``Audited`` has them
    turned : whether time runs the other way than was declared
    divisor, shift : the data are read as (x - shift) / divisor
    misfit : squared error of the target prediction, relative to that of a straight line
    """

    path: AffinePath
    prediction: str
    turned: bool = False
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


@dataclass(frozen=True)
class Verdict:
    """What the data say of a declaration: whether it is refused, and what is wrong, or None."""

    refused: bool
    sentence: str | None


@dataclass(frozen=True)
class Evidence:
    """Moments of the data, and of the samples that a short solve of the declared model draws."""

    data: Moments
    sampled: Moments

    def said_of(self, declared: Reading) -> str:
        """Return it in words."""
        much = f"{declared.misfit:.3g} times" if math.isfinite(declared.misfit) else "infinitely many times"
        return (
            f"its one-step predictions have {much} the squared error of a straight line's, and samples of a "
            f"{STEPS}-step solve have mean {self.sampled.mean:.2g}, standard deviation {self.sampled.deviation:.2g}, "
            f"where the data have {self.data.mean:.2g} and {self.data.deviation:.2g}"
        )


def judge(audit: Audit, seed: int) -> Verdict:
    """Compare the declaration of a subject with other readings, on its data."""
    x1, flow = audit.clean(STATES, torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(seed + 1)
    x0 = torch.randn(x1.shape, generator=generator, dtype=torch.float64).to(x1)
    if len(x1) < 2 or not Moments.of(x1).deviation > 0:
        return Verdict(False, None)  # there is nothing to compare with
    evidence = Evidence(Moments.of(x1), Moments.of(short_solve(flow, x0)))
    declared, others = _readings(flow, x1, x0)
    others += _scaled(flow, declared, evidence, x1, x0)
    return _verdict(audit, declared, others, evidence)


def _verdict(audit: Audit, declared: Reading, others: Sequence[Reading], evidence: Evidence) -> Verdict:
    least = min((reading.misfit for reading in others), default=math.inf)
    near = [reading for reading in others if reading.misfit <= DOUBTED * least < math.inf]
    best = min(near, key=lambda reading: (reading.changes(declared), reading.misfit), default=declared)
    if best.misfit <= WORST and best.times_better(declared) >= DOUBTED:
        looks = f"this looks like {_described(audit, declared, best)} (read so, {best.misfit:.2g} times)"
        said = f"the model does not fit the data as it is declared: {evidence.said_of(declared)}; {looks}"
        if best.misfit > SEES and best.times_better(declared) < CERTAIN:
            return Verdict(False, f"{said}, or like one that is not trained on these data")
        return Verdict(best.times_better(declared) >= REFUSED, said)
    if declared.misfit > WORST:
        return Verdict(
            False,
            "the model does not predict these data as it is declared, nor with another path, prediction, direction of "
            f"time or scale that was tried: {evidence.said_of(declared)}; is it trained, and on these data?",
        )
    return Verdict(False, None)


def _readings(flow: Flow, x1: Tensor, x0: Tensor) -> tuple[Reading, list[Reading]]:
    """Return the declared reading, and those with another path, prediction or direction of time."""
    if not isinstance(flow, PredictionFlow):
        return Reading(flow.path, "target", misfit=misfit_of_flow(flow, x1, x0)), []
    paths = dict.fromkeys([flow.own, *(make() for make in PATHS.values())])
    readings = [
        Reading(path, prediction, turned, misfit=misfit)
        for path, turned in itertools.product(paths, (False, True))
        for prediction, misfit in misfits(flow, path, turned, x1, x0).items()
    ]
    (declared,) = [r for r in readings if (r.path, r.prediction, r.turned) == (flow.own, flow.prediction, False)]
    return declared, [reading for reading in readings if reading is not declared]


def _scaled(flow: Flow, declared: Reading, evidence: Evidence, x1: Tensor, x0: Tensor) -> Iterator[Reading]:
    """Yield readings of the data at the scale of the model's own samples, about zero and about their mean."""
    data, sampled = evidence.data, evidence.sampled
    if not 0 < sampled.deviation < math.inf or abs(math.log(data.deviation / sampled.deviation)) < math.log(RESCALED):
        return
    divisor = data.deviation / sampled.deviation
    for shift in (0.0, data.mean - divisor * sampled.mean):
        scaled = (x1 - shift) / divisor
        if isinstance(flow, PredictionFlow):
            misfit = misfits(flow, flow.own, False, scaled, x0)[flow.prediction]
        else:
            misfit = misfit_of_flow(flow, scaled, x0)
        yield replace(declared, divisor=divisor, shift=shift, misfit=misfit)


def _described(audit: Audit, declared: Reading, best: Reading) -> str:
    """Return what a model looks like, and what to pass."""
    parts, passed = [], []
    if best.turned and isinstance(audit.made.flow, Flow):
        parts.append("whose time runs the other way")
        passed.append("turn it where the flow is made")
    elif best.turned:
        other = DIRECTIONS[1 - DIRECTIONS.index(audit.made.time)]
        parts.append(f"whose time runs from {other.replace('_to_', ' to ')}")
        passed.append(f"pass time={other!r}")
    if best.prediction != declared.prediction:
        parts.append(f"that predicts {NAMES[best.prediction]}")
        passed.append(f"pass prediction={best.prediction!r}")
    if best.path != declared.path:
        parts.append(f"trained on the path {best.path}")
        passed.append(f"pass path={best.path}")
    if best.divisor != 1:
        parts.append(f"trained on data {_times(best.divisor)}")
        taken = f"(data {'-' if best.shift > 0 else '+'} {abs(best.shift):.2g})" if best.shift else "data"
        passed.append(f"pass {taken} / {best.divisor:.2g}")
    return f"a model {' and '.join(parts)}: {', '.join(passed)}"


def _times(divisor: float) -> str:
    return f"{divisor:.2g} times smaller" if divisor > 1 else f"{1 / divisor:.2g} times larger"
