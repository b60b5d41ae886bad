"""An experiment whose cells take a while, and the command line with it in the place of all experiments."""

import sys
import time
from unittest import mock

import pandas as pd

import reproduce
from analysis import catalogue
from analysis.experiment import Cell

CELLS = 12


def cells(options):
    return [Cell(measure=f"{__name__}:measure", problem=f"p{i}", seed=options.seed) for i in range(CELLS)]


def measure(cell):
    time.sleep(0.3)
    return pd.DataFrame(cell.columns() | {"value": [int(cell.problem[1:]) / 7, cell.seed / 3]})


def derive(table):
    return {"mean": table.groupby("seed", as_index=False)["value"].mean()}


def main(arguments=None):
    """Run the command line, and return its exit code."""
    from tests.support import sleepy  # by the name under which workers find it

    with mock.patch.object(catalogue, "experiments", return_value={"greedy_error": sleepy}):
        return reproduce.main(arguments)


if __name__ == "__main__":
    sys.excepthook = reproduce._stopped
    sys.exit(main())
