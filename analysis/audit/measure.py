"""The rows of an audit: how wrong greedy guidance and lookahead are at one time, against fine solves.

The truth is a converged fine solve whose own convergence is shown (``analysis.audit.truth``). A network in less than
float64 is compared with a float64 copy of itself; where there can be no copy, with fine solves in its own dtype (column
``truth_dtype``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from analysis import checks, errors, provenance, solvers
from analysis.audit.arguments import refusing, yes_or_no
from analysis.audit.examine import fingerprint, probe
from analysis.audit.refusal import AuditError
from analysis.audit.subject import Audit, AuditStates, load
from analysis.audit.truth import MARGIN, Truth, ideal_gradients
from analysis.bounds.leading_term import leading_term
from analysis.experiment import Cell
from analysis.gradients import greedy, lookahead_surface

TIMES, QUICK_TIMES = tuple(i / 10 for i in range(1, 10)), (0.2, 0.5, 0.8)
SAMPLES, QUICK_SAMPLES = 32, 8
STEPS, QUICK_STEPS = (1, 2, 4, 8, 16), (1, 2, 4)
FRACTIONS = (0.25, 0.5, 0.75, 1.0)  # of the way from t to 1
SOLVERS = ("ddim", "midpoint")


@dataclass(frozen=True)
class AuditOptions:
    """What is asked of an audit.

    Attributes
    ----------
    name : what the subject is called; on the command line "package.module:factory", which returns it
    error : the relative error wanted of a lookahead, in (0, 1)
    times : in (0, 1); None for 0.1, 0.2, ... 0.9, or fewer where ``quick``
    samples : states per time; None for 32, or 8 where ``quick``
    check : whether the declaration is compared with the data, and refused where another one fits them
    """

    name: str
    error: float = 0.05
    times: Sequence[float] | None = None
    samples: int | None = None
    quick: bool = False
    seed: int = 0
    device: str = "cpu"
    check: bool = True

    def settled(self) -> tuple[list[float], int]:
        """Return the times and the number of states.

        Returns
        -------
        tuple[list[float], int]
            The times in rising order, and the number of states per time.

        Raises
        ------
        AuditError
            For an option with a value that is not allowed.
        """
        with refusing():
            for name in ("quick", "check"):
                yes_or_no(name, getattr(self, name))
            given = (QUICK_TIMES if self.quick else TIMES) if self.times is None else self.times
            samples = (QUICK_SAMPLES if self.quick else SAMPLES) if self.samples is None else self.samples
            checks.inside("error", self.error)
            checks.seed("seed", self.seed)
            times = {checks.inside("times", t) for t in checks.sequence("times", given)}
            return sorted(times), checks.count("samples", samples)

    def cells(self, audit: Audit, again: Audit, *, marked: bool) -> list[Cell]:
        """Return one cell per time, after asking the subject at all of them.

        ``again`` is the subject asked a second time. Where ``marked``, a cell is keyed by what the subject is made of,
        so that its rows can be reused.

        Returns
        -------
        list[Cell]
            One per time.

        Raises
        ------
        AuditError
            For a subject that cannot be audited at one of the times.
        """
        times, samples = self.settled()
        common: dict[str, Any] = {"measure": f"{__name__}:measure", "factory": self.name, "problem": self.name}
        common |= {"path": type(audit.flow.path).__name__, "samples": samples, "device": self.device}
        extra = (("steps", QUICK_STEPS if self.quick else STEPS), ("wanted", self.error))
        cells = []
        for t in times:
            values = probe(audit, again, t, samples, self.generator)
            marks = (("fingerprint", fingerprint(audit, values)),) if marked else ()
            cells.append(Cell(**common, times=(t,), seed=self.seed, extra=(*marks, *extra)))
        return cells

    def generator(self) -> torch.Generator:
        """Return the generator of states: two models on the same data are compared on the same states."""
        return torch.Generator().manual_seed(self.seed)


def measure(cell: Cell) -> pd.DataFrame:
    """Measure one time of an audit of a factory: rows of greedy, of lookahead and of the fine solve's convergence."""
    return measure_subject(cell, load(cell.factory, cell.device))


def measure_subject(cell: Cell, audit: Audit) -> pd.DataFrame:
    """Measure one time of an audit of this subject.

    Returns
    -------
    DataFrame
        Its rows, one per gradient and metric.

    Raises
    ------
    AuditError
        Where there is no truth to compare with; the message says why.
    """
    try:
        return pd.DataFrame(list(_rows(cell, audit)))
    except (ValueError, RuntimeError) as error:
        prefix = f"{cell.factory} at t = {cell.times[0]:g}: "
        raise AuditError(prefix + str(error).removeprefix(prefix)) from error


def _rows(cell: Cell, audit: Audit) -> Iterator[dict[str, Any]]:
    extra, (t,) = cell.extra_dict, cell.times
    states = audit.draw(t, cell.samples, torch.Generator().manual_seed(cell.seed))
    ideal = ideal_gradients(states, t, extra["wanted"] / MARGIN)
    bounds = ideal.bound[ideal.usable]
    common: dict[str, Any] = {"problem": cell.problem, "truth": ideal.tier, "truth_dtype": ideal.dtype}
    common |= {"path": cell.path, "t": t, "zeta": float(audit.flow.path.zeta(t)), "dtype": str(states.x.dtype)[6:]}
    common |= {"device": provenance.device_name(cell.device), "seed": cell.seed, "wanted": extra["wanted"]}
    common |= {"reference_bound": float(bounds.max()), "status": "ok"}
    for row in (*_greedy(states, t, ideal), *_lookahead(states, t, ideal, extra["steps"])):
        yield common | row
    for row in ideal.doublings:
        yield common | {"estimator": "fine_solve", "solver": "rk4"} | row


def _greedy(states: AuditStates, t: float, ideal: Truth) -> Iterator[dict[str, Any]]:
    """Yield greedy's error, cosine and length, and what the leading term says of them without a truth."""
    gradient = greedy(states.flow, states.loss, states.x, t).gradient.double().cpu()
    row = {"estimator": "greedy", "evaluations": 1.0}
    for name, metric in errors.METRICS.items():
        yield row | {"metric": name} | errors.summary(metric(gradient, ideal.gradient))
    try:
        estimate = leading_term(states.flow, states.loss, states.x, t).double().cpu()
    except ValueError as error:  # greedy itself can be differentiated, its derivative cannot
        n = len(states.x)
        yield row | {"metric": "leading_term", "status": str(error), "samples": n, "failed": n}
        return
    yield row | {"metric": "leading_term"} | errors.summary(errors.relative(estimate, gradient))
    wrong = errors.relative_error(estimate, ideal.gradient - gradient)
    yield row | {"metric": "leading_term_error"} | errors.summary(wrong)


def _lookahead(states: AuditStates, t: float, ideal: Truth, steps: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield the error of every lookahead, by solver, number of steps and horizon."""
    horizons = [1.0 if f == 1 else t + f * (1 - t) for f in FRACTIONS]
    for solver in SOLVERS:
        arguments = states.flow, states.loss, states.x, t, steps, horizons
        surface = lookahead_surface(*arguments, solver=solver).gradient.double().cpu()
        for i, n in enumerate(steps):
            for j, s in enumerate(horizons):
                row = {"estimator": "lookahead", "solver": solver, "steps": n, "horizon": s, "fraction": FRACTIONS[j]}
                evaluations = n * solvers.SOLVERS[solver].evaluations + (s < 1)
                error = errors.relative_error(surface[i, j], ideal.gradient)
                yield row | {"metric": "relative_error", "evaluations": float(evaluations)} | errors.summary(error)
