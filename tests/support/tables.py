"""Tables of a quick run, shipped for the tests of figures, and what the experiments of today derive of them.

``python -m tests.support.tables OUT`` copies the tables that ``reproduce.py compute --quick --out OUT`` has made, where
their columns have changed. That of the bench is made by hand, since its peers need not be installed.
"""

from __future__ import annotations

import functools
import importlib
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd

import real_models.experiments  # noqa: F401  # this and the next enter their names
import toy_models.experiments  # noqa: F401
from analysis import registration
from analysis.audit import advice, report

FOLDER = Path(__file__).parent / "data" / "tables"
EXPERIMENTS = {
    name: module for name, module in registration.EXPERIMENTS.items() if module.partition(".")[0].endswith("_models")
}


@functools.cache
def shipped(name: str) -> pd.DataFrame:
    """Return a table of the quick run."""
    return pd.read_parquet(FOLDER / f"{name}.parquet")


@functools.cache
def derived(name: str) -> dict[str, pd.DataFrame]:
    """Return all tables of an experiment, or of an audit, by name."""
    if name == "audit":
        tables = {part: shipped(part) for part in ("audit", "audit_lookahead", "audit_fine")}
        tables["audit_best"] = advice.best_lookahead(tables["audit"], tables["audit_lookahead"])
        tables["audit_frontier"] = advice.frontier(tables["audit"], tables["audit_lookahead"])
        tables["audit_advice"] = advice.advice(tables["audit"], tables["audit_lookahead"])
        return tables | {"audit_facts": report.facts(tables)}
    derive = getattr(importlib.import_module(EXPERIMENTS[name]), "derive", lambda table: {})
    return {name: shipped(name)} | {f"{name}_{part}": table for part, table in derive(shipped(name)).items()}


def tables_of(figure: ModuleType) -> dict[str, pd.DataFrame]:
    """Return the tables of a figure, copied."""
    tables = {}
    for table in figure.TABLES:
        maker = max((name for name in (*EXPERIMENTS, "audit") if f"{table}_".startswith(f"{name}_")), key=len)
        tables[table] = derived(maker)[table].copy()
    return tables


if __name__ == "__main__":
    for path in sorted(FOLDER.glob("*.parquet")):
        made = Path(sys.argv[1]) / "tables" / path.name
        if made.exists():
            pd.read_parquet(made).to_parquet(path, compression="zstd", index=False)
