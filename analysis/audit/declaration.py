"""Does a model do on the data what was declared of it: path, prediction, direction of time, scale of the data?

All other ways to read the model (``analysis.audit.readings``) are compared with the declared one by their misfit on the
data (``analysis.audit.misfit``). What is advised fits the data: it predicts them better than a straight line in the
state does, or as well as one, and then its samples have their mean and standard deviation. Scales are searched where no
reading at the scale of the data as they are does better than a line.

The thresholds were set on thirty networks (three data sets, five paths, four predictions, both directions of time; 2000
steps of training, or 300), whose misfit as declared was 0.27 to 1.07. A network whose misfit is above one even if it is
read as it was trained is doubted where it is declared otherwise, and nothing is advised.

Where the rows are so few, of so few dimensions, that they leave the variance of the data uncertain by more than a fifth
(``DEGREES``; 49 rows are always enough), nothing is compared: what fits them best fits their chance. With 2 to 8 rows
of a mixture in the plane, a quarter of the right declarations would be refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.audit.misfit import STEPS, Moments, degrees
from analysis.audit.model import DIRECTIONS, finite_rows, unguarded
from analysis.audit.readings import Compared, Reading
from analysis.audit.subject import Audit
from analysis.flow import Flow

STATES = 256
DOUBTED, REFUSED, CERTAIN = 1.06, 1.15, 1.5  # by how many times another reading fits better
SEES, FITS = 0.98, 1.02  # a misfit that takes more than the data's moments; one no worse than theirs
WORST = 1.2  # a misfit that no model of the data has
DEGREES = 48  # of freedom of the variance, whose standard error is then a fifth of it
UNCHECKED = (
    "path, prediction, direction of time and scale are not checked, since {}: pass more of the data that the model was "
    "trained on"
)
NAMES = {"velocity": "the velocity", "target": "the data", "source": "the noise", "score": "the score"}


@dataclass(frozen=True)
class Verdict:
    """What the data say of a declaration: whether it is refused, what is wrong, and what is advised, or None."""

    refused: bool
    sentence: str | None
    advised: Reading | None = None


def judge(audit: Audit, seed: int) -> Verdict:
    """Compare the declaration of a subject with other readings, on its data."""
    x1, flow = audit.clean(STATES, torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(seed + 1)
    x0 = torch.randn(x1.shape, generator=generator, dtype=torch.float64).to(x1)
    if len(x1) < 2 or not Moments.of(x1).deviation > 0:
        return Verdict(False, UNCHECKED.format("the data have one row or equal rows"))
    directions = DIRECTIONS if isinstance(audit.made.flow, Flow) else (audit.made.time,)
    compared = Compared(unguarded(flow), directions, x1, x0)
    if degrees(x1) < DEGREES:
        return _of_few(compared)
    declared, others = compared.readings()
    samples = compared.samples(declared)
    best = _best(compared, declared, others)
    doubtful = best or declared.misfit > FITS or not compared.like_the_data(samples)
    if doubtful and not (best and best.misfit <= SEES):
        best = _best(compared, declared, [*others, *compared.rescaled([declared, *others])])
    return _verdict(audit, compared, declared, best, samples)


def _of_few(compared: Compared) -> Verdict:
    """Return the verdict on rows too few to compare readings on: only samples that are not finite are refused."""
    samples, n = compared.samples(compared.declared()), len(compared.x1)
    if bad := _not_finite(samples):
        return Verdict(True, f"{bad} of {n} samples of a {STEPS}-step solve are not finite")
    return Verdict(False, UNCHECKED.format(f"{n} rows of the data are too few to tell their spread"))


def _best(compared: Compared, declared: Reading, others: Sequence[Reading]) -> Reading | None:
    """Return what to advise: of the readings of about the least misfit, the one that changes least, if any fits."""
    fitting = [
        reading
        for reading in others
        if reading.misfit <= FITS and reading.times_better(declared) >= DOUBTED
        if reading.divisor != 1 or reading.misfit <= SEES or compared.like_the_data(compared.samples(reading))
    ]
    least = min((reading.misfit for reading in fitting), default=math.inf)
    near = [reading for reading in fitting if reading.misfit <= DOUBTED * least]
    return min(near, key=lambda reading: (reading.changes(declared), reading.misfit), default=None)


def _verdict(
    audit: Audit, compared: Compared, declared: Reading, best: Reading | None, samples: Tensor | None
) -> Verdict:
    bad = _not_finite(samples)
    evidence = _evidence(declared, samples, compared.x1, bad)
    said = f"the model does not fit the data as it is declared: {evidence}"
    if best:
        like = f"{_described(audit, declared, best)} ({best.misfit:.2g} times the linear fit's)"
        if best.misfit > SEES and best.times_better(declared) < CERTAIN and not bad:
            return Verdict(
                False, f"{said}; it looks like a model that is not trained on these data, or like {like}", best
            )
        return Verdict(bool(bad) or best.times_better(declared) >= REFUSED, f"{said}; this looks like {like}", best)
    if bad:
        return Verdict(True, f"{said}; no other path, prediction, direction of time or scale that was tried fits them")
    if declared.misfit > WORST:
        return Verdict(
            False,
            "the model does not predict these data as it is declared, nor with another path, prediction, direction of "
            f"time or scale that was tried: {evidence}; it may not be trained, or not on these data",
        )
    return Verdict(False, None)


def _not_finite(samples: Tensor | None) -> int:
    return 0 if samples is None else int((~finite_rows(samples)).sum())


def _evidence(declared: Reading, samples: Tensor | None, x1: Tensor, bad: int) -> str:
    """Return in words what a model does on the data as it is declared; ``bad`` samples are not finite."""
    said = "its one-step predictions are not finite"
    if math.isfinite(declared.misfit):
        said = f"its one-step predictions have {declared.misfit:.3g} times the squared error of a linear fit"
    if bad:
        return f"{said}, and {bad} of {len(x1)} samples of a {STEPS}-step solve are not finite"
    if samples is None:
        return said
    sampled, data = Moments.of(samples), Moments.of(x1)
    return (
        f"{said}, and samples of a {STEPS}-step solve have mean {sampled.mean:.2g}, standard deviation "
        f"{sampled.deviation:.2g}, where the data have {data.mean:.2g} and {data.deviation:.2g}"
    )


def _described(audit: Audit, declared: Reading, best: Reading) -> str:
    """Return what a model looks like, and what to pass."""
    parts, passed = [], []
    give = "make the flow with" if isinstance(audit.made.flow, Flow) else "pass"
    if best.turned and isinstance(audit.made.flow, Flow):
        parts.append("whose time runs the other way")
        passed.append("turn it where the flow is made")
    elif best.turned:
        other = DIRECTIONS[1 - DIRECTIONS.index(audit.made.time)]
        parts.append(f"whose time runs from {other.replace('_to_', ' to ')}")
        passed.append(f"{give} time={other!r}")
    if best.prediction != declared.prediction:
        parts.append(f"that predicts {NAMES[best.prediction]}")
        passed.append(f"{give} prediction={best.prediction!r}")
    if best.path != declared.path:
        parts.append(f"trained on the path {best.path}")
        passed.append(f"{give} path={best.path}")
    if best.divisor != 1:
        parts.append(f"trained on data {_times(best.divisor)}")
        taken = f"(data {'-' if best.shift > 0 else '+'} {abs(best.shift):.2g})" if best.shift else "data"
        passed.append(f"pass {taken} / {_rounded(best.divisor)}")
    return f"a model {' and '.join(parts)}: {', '.join(passed)}"


def _times(divisor: float) -> str:
    return f"{_rounded(divisor)} times smaller" if divisor > 1 else f"{_rounded(1 / divisor)} times larger"


def _rounded(factor: float) -> str:
    return f"{factor:.0f}" if factor >= 100 else f"{factor:.2g}"
