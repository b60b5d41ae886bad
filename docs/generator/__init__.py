"""Generated parts of pages, by the name with which a page asks for them."""

from __future__ import annotations

from collections.abc import Callable

from docs.generator import columns, command, estimators, glossary, ledger, solver_tables

PARTS: dict[str, Callable[[], str]] = {
    "common-columns": columns.common_columns,
    "estimators": estimators.estimators,
    "glossary": glossary.glossary,
    "grids": solver_tables.grid_names,
    "ledger": ledger.ledger,
    "memory": solver_tables.memory,
    "paths": solver_tables.path_table,
    "solver-tableaux": solver_tables.solver_tableaux,
    "solvers-of-their-own": solver_tables.solvers_of_their_own,
    "suites": command.suites,
    "tables": columns.tables,
    "variables": solver_tables.variables,
    "verbs": command.verbs,
}
