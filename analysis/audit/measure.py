"""Audit a user's flow: greedy guidance's error at each time, and the smallest sufficient lookahead.

``python reproduce.py audit package.module:factory`` calls ``run``. The truth is a converged fine solve whose own
convergence is shown: two adaptive solves at two tolerances (``analysis.reference``), and beside them a fixed-step RK4
solve whose steps are doubled until the gradient stops changing. A network in less than float64 is compared with a
float64 copy of itself; if it cannot be copied, with fine solves in its own dtype (column ``truth_dtype``).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from analysis import checks, errors, provenance, results, solvers
from analysis.audit.report import best_lookahead, facts, frontier, words
from analysis.audit.subject import Audit, Audited, AuditError, load, probe
from analysis.audit.truth import MARGIN, Truth, ideal_gradients
from analysis.bounds.leading_term import leading_term
from analysis.experiment import Cell
from analysis.gradients import greedy, lookahead_surface
from analysis.losses import Loss
from analysis.runner import run as run_cells
from analysis.settings import Options
from analysis.suite import record
from analysis.workers import Workers

__all__ = ["AuditError", "AuditOptions", "Audited", "measure", "run"]
TIMES, QUICK_TIMES = tuple(i / 10 for i in range(1, 10)), (0.2, 0.5, 0.8)
SAMPLES, QUICK_SAMPLES = 32, 8
STEPS, QUICK_STEPS = (1, 2, 4, 8, 16), (1, 2, 4)
FRACTIONS = (0.25, 0.5, 0.75, 1.0)  # of 1 - t
SOLVERS = ("ddim", "midpoint")


@dataclass(frozen=True)
class AuditOptions:
    """Options of an audit.

    Attributes
    ----------
    factory : "package.module:factory", which returns the flow and its data
    error : the relative error wanted of a lookahead, in (0, 1)
    times : in (0, 1); None for 0.1, 0.2, ... 0.9, or fewer where ``quick``
    samples : states per time; None for 32, or 8 where ``quick``
    """

    factory: str
    error: float = 0.05
    times: Sequence[float] | None = None
    samples: int | None = None
    quick: bool = False
    seed: int = 0
    device: str = "cpu"


def run(options: AuditOptions, out: Path, workers: Workers) -> list[str]:
    """Audit a flow, and write its tables and audit.txt below ``out``; times that are finished there are reused.

    Returns
    -------
    list
        The lines of audit.txt.

    Raises
    ------
    AuditError
        For a subject or options that cannot be audited, with the reason.
    """
    # Behind all else, so that no module there hides an installed one; nor one of this project, which an editable
    # installation finds after all that is on the path, in the processes that measure.
    sys.path += [place for place in (str(provenance.ROOT), os.getcwd()) if place not in sys.path]
    todo = cells(options)
    frame = run_cells(todo, out / "cells", workers, options.factory)
    parts = {kind: part.dropna(axis=1, how="all") for kind, part in frame.groupby("estimator", sort=False)}
    tables = {"audit": parts["greedy"], "audit_lookahead": parts["lookahead"], "audit_fine": parts["fine_solve"]}
    tables["audit_best"] = best_lookahead(tables["audit"], tables["audit_lookahead"])
    tables["audit_frontier"] = frontier(tables["audit"], tables["audit_lookahead"])
    tables["audit_facts"] = facts(tables)
    names = {f"{__name__}:run"}.union(*(cell.names() for cell in todo))
    about = record(Options(options.quick, options.seed, device=options.device), names)
    asked = {"error": options.error, "times": [cell.times[0] for cell in todo], "samples": todo[0].samples}
    about |= {"factory": options.factory, "options": asked | {"quick": options.quick}}
    for name, table in tables.items():
        results.write_table(table, out / "tables" / f"{name}.parquet", about)
    lines = words(tables)
    results.write_text(out / "audit.txt", "".join(f"{line}\n" for line in lines))
    return lines


def cells(options: AuditOptions) -> list[Cell]:
    """Make one cell per time, after checking the options and the subject at all of them.

    Returns
    -------
    list
        The cells.

    Raises
    ------
    AuditError
        For a subject or options that cannot be audited, with the reason.
    """
    times = sorted(set(options.times or (QUICK_TIMES if options.quick else TIMES)))
    if not all(0 < t < 1 for t in times):
        raise AuditError(f"argument --times: must lie in (0, 1), got {times}")
    if not 0 < options.error < 1:
        raise AuditError(f"argument --error: must lie in (0, 1), got {options.error}")
    samples = (QUICK_SAMPLES if options.quick else SAMPLES) if options.samples is None else options.samples
    try:
        checks.count("argument --samples:", samples)
    except ValueError as error:
        raise AuditError(str(error)) from error
    audit, again = (load(options.factory, options.device) for _ in range(2))
    common: dict[str, Any] = {"measure": f"{__name__}:measure", "factory": options.factory, "problem": options.factory}
    common |= {"path": type(audit.flow.path).__name__, "samples": samples, "device": options.device}
    seeded = Cell(**common, times=(), seed=options.seed).generator
    extra = (("steps", QUICK_STEPS if options.quick else STEPS), ("wanted", options.error))
    extras = [(("fingerprint", probe(audit, again, t, samples, seeded)), *extra) for t in times]
    return [
        Cell(**common, times=(t,), seed=options.seed, extra=marked) for t, marked in zip(times, extras, strict=True)
    ]


def measure(cell: Cell) -> pd.DataFrame:
    """Measure one time of an audit: greedy, lookahead, the fine solve; ``AuditError`` where the subject fails."""
    try:
        return pd.DataFrame(list(_rows(cell, load(cell.factory, cell.device))))
    except (ValueError, RuntimeError) as error:
        prefix = f"{cell.factory} at t = {cell.times[0]:g}: "
        raise AuditError(prefix + str(error).removeprefix(prefix)) from error


def _rows(cell: Cell, audit: Audit) -> Iterator[dict[str, Any]]:
    extra, (t,) = cell.extra_dict, cell.times
    x, loss = audit.draw(t, cell.samples, cell.generator())
    truth = ideal_gradients(audit, loss, x, t, extra["wanted"] / MARGIN)
    bounds = truth.bound[truth.usable]
    common: dict[str, Any] = {"problem": cell.problem, "truth": truth.tier, "truth_dtype": truth.dtype}
    common |= {"path": cell.path, "t": t, "zeta": float(audit.flow.path.zeta(t)), "dtype": str(x.dtype)[6:]}
    common |= {"device": provenance.device_name(cell.device), "seed": cell.seed, "wanted": extra["wanted"]}
    common |= {"reference_bound": float(bounds.max()), "status": "ok"}
    for row in (*_greedy(audit, loss, x, t, truth), *_lookahead(audit, loss, x, t, truth, extra["steps"])):
        yield common | row
    for row in truth.doublings:
        yield common | {"estimator": "fine_solve", "solver": "rk4"} | row


def _greedy(audit: Audit, loss: Loss, x: Tensor, t: float, truth: Truth) -> Iterator[dict[str, Any]]:
    """Yield greedy's error, cosine and length, and the leading-term estimate of the error, which needs no truth."""
    gradient = greedy(audit.flow, loss, x, t).gradient.double().cpu()
    row = {"estimator": "greedy", "evaluations": 1.0}
    for name, metric in errors.METRICS.items():
        yield row | {"metric": name} | errors.summary(metric(gradient, truth.gradient))
    try:
        estimate = leading_term(audit.flow, loss, x, t).double().cpu()
    except ValueError as error:  # greedy itself can be differentiated, its derivative cannot
        yield row | {"metric": "leading_term", "status": str(error), "samples": len(x), "failed": len(x)}
        return
    yield row | {"metric": "leading_term"} | errors.summary(errors.relative(estimate, gradient))
    wrong = errors.relative_error(estimate, truth.gradient - gradient)
    yield row | {"metric": "leading_term_error"} | errors.summary(wrong)


def _lookahead(
    audit: Audit, loss: Loss, x: Tensor, t: float, truth: Truth, steps: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Yield the error of every lookahead, by solver, number of steps and horizon."""
    horizons = [1.0 if f == 1 else t + f * (1 - t) for f in FRACTIONS]
    for solver in SOLVERS:
        surface = lookahead_surface(audit.flow, loss, x, t, steps, horizons, solver=solver).gradient.double().cpu()
        for i, n in enumerate(steps):
            for j, s in enumerate(horizons):
                row = {"estimator": "lookahead", "solver": solver, "steps": n, "horizon": s, "fraction": FRACTIONS[j]}
                evaluations = n * solvers.SOLVERS[solver].evaluations + (s < 1)
                error = errors.relative_error(surface[i, j], truth.gradient)
                yield row | {"metric": "relative_error", "evaluations": float(evaluations)} | errors.summary(error)
