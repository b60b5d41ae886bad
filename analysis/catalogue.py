"""What can be named: suites, figures and experiments, and what belongs to each; read from ``analysis.registration``."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from types import ModuleType

from analysis import registration, suite
from analysis.registration import EXPERIMENTS, FIGURES
from analysis.users_code import is_users

AUDIT = ("audit_error", "audit_lookahead")  # the figures of an audit, which no suite makes


def load(modules: Sequence[str]) -> None:
    """Import what users have entered, as ``registration.load`` does.

    Raises
    ------
    ImportError
        As there, and for an experiment of a suite that there is not.
    """
    registration.load(modules)
    for name, module in EXPERIMENTS.items():
        kind = getattr(importlib.import_module(module), "SUITE", "") if is_users(module) else ""
        if kind not in ("", *suite.SUITES):
            raise ImportError(f"SUITE of experiment {name!r} must be one of {', '.join(suite.SUITES)}, got {kind!r}")


def experiments() -> dict[str, ModuleType]:
    """Return every experiment by the name of its table."""
    return {name: importlib.import_module(module) for name, module in EXPERIMENTS.items()}


def figure(name: str) -> ModuleType:
    """Return the module of a figure."""
    return importlib.import_module(FIGURES[name])


def tables_of(figures: Iterable[str]) -> list[str]:
    """Return the tables of figures, by name."""
    return sorted({table for name in figures for table in figure(name).TABLES})


def with_others(tables: Iterable[str], folder: Path) -> list[str]:
    """Return tables, and what ``folder`` holds of the same experiments beside them, by name."""
    known = experiments()
    mine = {*suite.makers(tables, known)}
    return sorted({*tables, *(p.stem for p in folder.glob("*.parquet") if mine & {*suite.makers([p.stem], known)})})


def unknown(names: Iterable[str]) -> list[str]:
    """Return the names that are of no suite, figure or experiment."""
    return sorted({*names} - {*suite.SUITES, "all", *FIGURES, *EXPERIMENTS})


def selected(names: Collection[str]) -> dict[str, str]:
    """Select figures by names of suites, figures and experiments; no names: all figures.

    Returns
    -------
    dict
        From figures to suites: "" for a figure that is made only where it is named, "audit" for one of an audit.
    """
    asked = {*names}
    if asked and asked <= {*AUDIT}:
        return dict.fromkeys(sorted(asked), "audit")
    known, found = experiments(), {}
    for name in sorted(FIGURES):
        makers = suite.makers(tables_of([name]), known)
        kind, others = suite.suite_of(makers.values()), {*makers} - {*FIGURES}  # a name of both is the figure's
        if not asked or asked & {name, kind, "all" if kind else "", *others}:
            found[name] = kind
    return dict(sorted(found.items(), key=lambda pair: [*suite.SUITES, ""].index(pair[1])))
