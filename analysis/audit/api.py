"""An audit from Python: ``audit(model, data, path=...)`` returns a report; the command line writes the same one."""

from __future__ import annotations

import html
import importlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from analysis import checks, registration, results
from analysis.audit.advice import advice, best_lookahead, frontier
from analysis.audit.arguments import refuse_unknown
from analysis.audit.data import Source
from analysis.audit.declaration import judge
from analysis.audit.measure import AuditOptions, measure_subject
from analysis.audit.model import modules
from analysis.audit.refusal import AuditError, ask
from analysis.audit.report import facts, words
from analysis.audit.subject import Audit, Audited, load, of
from analysis.experiment import Cell
from analysis.flow import Flow, Prediction
from analysis.paths import AffinePath
from analysis.runner import run as run_cells
from analysis.settings import Options
from analysis.suite import record
from analysis.workers import Workers


@dataclass(frozen=True)
class AuditReport:
    """What an audit has found.

    Attributes
    ----------
    tables : by name, as they are written: "audit" (greedy), "audit_lookahead", "audit_fine" (the truth's convergence),
        "audit_best", "audit_advice", "audit_frontier", "audit_facts"
    lines : what they say in words, with advice, and whether the audit was quick
    about : their provenance
    """

    tables: dict[str, pd.DataFrame]
    lines: list[str]
    about: dict[str, Any]

    @classmethod
    def of(cls, frame: pd.DataFrame, about: dict[str, Any], doubt: str | None) -> AuditReport:
        """Make one from the rows of all times."""
        parts = {kind: part.dropna(axis=1, how="all") for kind, part in frame.groupby("estimator", sort=False)}
        tables = {"audit": parts["greedy"], "audit_lookahead": parts["lookahead"], "audit_fine": parts["fine_solve"]}
        for name, make in (("best", best_lookahead), ("frontier", frontier), ("advice", advice)):
            tables[f"audit_{name}"] = make(tables["audit"], tables["audit_lookahead"])
        tables["audit_facts"] = facts(tables)
        said = [f"Doubtful: {doubt}."] if doubt else []
        quick = ["Quick audit of few states and steps, not a result."] if about["options"]["quick"] else []
        return cls(tables, [*said, *words(tables), *quick], about)

    def figures(self) -> dict[str, Any]:
        """Return the matplotlib figures of the audit by name, drawn by what is entered in ``registration.FIGURES``.

        Returns
        -------
        dict[str, Figure]
            Drawn from the tables.

        Raises
        ------
        RuntimeError
            Where nothing is, as where this project is not installed and ``figures`` was not imported.
        """
        registration.load()
        names = [name for name in registration.FIGURES if name.startswith("audit_")]
        if not names:
            raise RuntimeError("figures() needs a module that draws: import figures first")
        modules = {name: importlib.import_module(registration.FIGURES[name]) for name in sorted(names)}
        return {name: module.draw(self.tables) for name, module in modules.items()}

    def write(self, folder: Path | str) -> None:
        """Write the tables (Parquet and CSV, with provenance) and audit.txt below a folder."""
        out = Path(folder)
        for name, table in self.tables.items():
            results.write_table(table, out / "tables" / f"{name}.parquet", self.about)
        results.write_text(out / "audit.txt", "".join(f"{line}\n" for line in self.lines))

    def __str__(self) -> str:
        """Return the lines."""
        return "\n".join(self.lines)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the lines, and the table of advice."""
        lines = "".join(f"<li>{html.escape(line)}</li>" for line in self.lines)
        shown = self.tables["audit_advice"].drop(columns="zeta").to_html(index=False, na_rep="", float_format="%.3g")
        return f"<ul>{lines}</ul>{shown}"


@refuse_unknown
def audit(
    model: Flow | Prediction,
    data: Source,
    *,
    path: AffinePath | None = None,
    prediction: str = "velocity",
    loss: Callable[..., Tensor] | None = None,
    time: str = "noise_to_data",
    times: Sequence[float] | None = None,
    samples: int | None = None,
    error: float = 0.05,
    t_max: float | None = None,
    quick: bool = False,
    seed: int = 0,
    check: bool = True,
    name: str | None = None,
) -> AuditReport:
    """Measure how wrong greedy and lookahead gradients of a model are, and say which to take.

    The states are drawn by ``seed`` and the data alone: two models that are audited on the same data are compared on
    the same ones.

    Parameters
    ----------
    model, data, path, prediction, loss, time, t_max : as ``Audited`` has them; a model in memory is enough
    times : in (0, 1); by default 0.1, 0.2, ... 0.9
    samples : states per time; by default 32
    error : the relative error wanted of a gradient, in (0, 1)
    quick : fewer times, states and steps, where these are not given
    check : whether path, prediction, time and scale of the data are compared with what the model does on them
    name : what tables call the model; by default its class

    Returns
    -------
    AuditReport
        Tables, figures and lines, which end in advice.

    Raises
    ------
    AuditError
        For a model, data or an argument that cannot be audited, for one that there is not, where another declaration
        fits the data much better, and where samples of the model are not finite.

    Warns
    -----
    RuntimeWarning
        Where another declaration fits the data better, or none does.
    """
    options = AuditOptions(_called(model, name), error, times, samples, quick, seed, check=check)
    options.settled()
    subject = of(Audited(model, data, loss, path, prediction, t_max, time), options.name, "cpu")
    device = next((str(p.device) for network in modules(subject.flow) for p in network.parameters()), "cpu")
    subject, options = replace(subject, device=device), replace(options, device=device)
    cells = options.cells(subject, subject, marked=False)
    doubt = declared(subject, options)
    if doubt:
        warnings.warn(doubt, RuntimeWarning, stacklevel=3)
    frame = pd.concat([measure_subject(cell, subject) for cell in cells], ignore_index=True)
    return AuditReport.of(frame, _about(options, cells), doubt)


def _called(model: Any, name: str | None) -> str:
    """Return what tables call a model."""
    if name is not None and not isinstance(name, str):
        raise AuditError(f"name must be a string, got {checks.kind(name)}")
    function = getattr(model, "function", model) if isinstance(model, Flow) else model
    return str(name or getattr(function, "__name__", type(function).__name__))


def declared(subject: Audit, options: AuditOptions) -> str | None:
    """Return what makes the declaration of a subject doubtful, if anything does.

    Returns
    -------
    str or None
        The sentence of ``declaration.judge``.

    Raises
    ------
    AuditError
        Where another declaration fits the data much better, or samples of the model are not finite.
    """
    if not options.check:
        return None
    verdict = ask(subject.name, judge, subject, options.seed)
    if verdict.refused:
        raise AuditError(f"{subject.name}: {verdict.sentence}; check=False, or --unchecked, audits it as it is")
    return verdict.sentence


def run(options: AuditOptions, out: Path, workers: Workers) -> AuditReport:
    """Audit what a factory returns, "package.module:factory", in processes, and write the report below ``out``.

    Finished times are read from there.

    Returns
    -------
    AuditReport
        What was written.

    Raises
    ------
    AuditError
        For a subject or options that cannot be audited; the message says what is wrong.
    """
    registration.import_from_here()
    options.settled()
    subject, again = (load(options.name, options.device) for _ in range(2))
    cells = options.cells(subject, again, marked=True)
    doubt = declared(subject, options)
    frame = run_cells(cells, out / "cells", workers, options.name)
    report = AuditReport.of(frame, _about(options, cells), doubt)
    report.write(out)
    return report


def _about(options: AuditOptions, cells: Sequence[Cell]) -> dict[str, Any]:
    names = {f"{__name__}:run"}.union(*(cell.names() for cell in cells))
    about = record(Options(options.quick, options.seed, device=options.device), names)
    asked = {"error": options.error, "times": [cell.times[0] for cell in cells], "samples": cells[0].samples}
    return about | {"factory": options.name, "options": asked | {"quick": options.quick}}
