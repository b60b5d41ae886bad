"""Rows of tables; the truth is a table written out by hand."""

import pandas as pd
import pytest

from analysis.slopes import slopes
from analysis.tables import errors_only, only

TABLE = pd.DataFrame(
    {
        "metric": ["relative_error", "relative_error", "norm_ratio", "relative_error"],
        "solver": ["euler", None, "rk4", "rk4"],
        "value": [1.0, 2.0, 3.0, 4.0],
    }
)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"metric": "relative_error", "solver": "rk4"}, [4.0]),
        ({"solver": None}, [2.0]),
        ({"solver": ("rk4", "euler")}, [1.0, 3.0, 4.0]),
        ({"solver": ["rk4", None]}, [2.0, 3.0, 4.0]),
        ({"value": 3.0}, [3.0]),
        ({"solver": "heun"}, []),
        ({}, [1.0, 2.0, 3.0, 4.0]),
    ],
)
def test_only_selects_by_column(values, expected):
    assert only(TABLE, **values)["value"].tolist() == expected


def test_only_names_an_unknown_column():
    with pytest.raises(ValueError, match="column 'solvers' is not in the table, whose columns are metric, solver"):
        only(TABLE, solvers="rk4")


def test_errors_only():
    assert errors_only(TABLE)["value"].tolist() == [1.0, 2.0, 4.0]


def test_a_slope_is_that_of_a_power_law_and_one_that_cannot_be_fitted_says_why():
    h = [1.0, 0.5, 0.25, 0.125, 0.0625]
    table = pd.DataFrame({"metric": "relative_error", "problem": "p", "h": h, "value": [3 * x**2 for x in h]})
    table = table.assign(reference_bound=1e-12)
    assert slopes(table, ["problem"], "h", 5)["slope"].item() == pytest.approx(2)
    assert "floor" in slopes(table[:2], ["problem"], "h", 5)["status"].item()
