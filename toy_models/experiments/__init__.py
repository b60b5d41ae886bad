"""The experiments on analytic flows, one module per table, loaded by name.

Each module defines ``cells(options) -> list[Cell]``. A module that also fits or selects from its own table defines
``derive(table) -> {suffix: table}``; these tables are written beside it as NAME_suffix.
"""

from analysis.registration import EXPERIMENTS, enter

enter(EXPERIMENTS, __name__, __path__, helpers=("common", "regime_outcomes", "regime_searches", "regime_tables"))
