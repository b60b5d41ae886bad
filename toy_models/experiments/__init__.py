"""The experiments on analytic flows, one module per table, found by their names.

Each module defines ``cells(options) -> list[Cell]``; one that also fits or selects from its own table defines
``derive(table) -> {suffix: table}``, written beside it as NAME_suffix.
"""
