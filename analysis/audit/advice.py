"""Advice from an audit's tables: which gradient, with how many steps, for which wanted error.

This module never imports torch.
"""

from __future__ import annotations

import pandas as pd

WANTED = (0.3, 0.1, 0.03, 0.01)  # errors that advice is given for, beside the one that was asked for
FROM = ["t", "zeta", "wanted", "estimator", "solver", "steps", "horizon", "fraction", "evaluations", "value"]


def tried(greedy: pd.DataFrame, lookahead: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of all gradients that an audit has measured, with their relative errors."""
    rows = pd.concat([greedy[greedy["metric"] == "relative_error"], lookahead])
    return rows[rows["failed"] < rows["samples"]]


def best_lookahead(greedy: pd.DataFrame, lookahead: pd.DataFrame, wanted: float | None = None) -> pd.DataFrame:
    """Return for each t the gradient of least evaluations, then of least median error, within the wanted error.

    Where none is, the row is that of the least error, and ``reached`` is false.

    Returns
    -------
    DataFrame
        One row per t.
    """
    rows = tried(greedy, lookahead)
    if wanted is not None:
        rows = rows.assign(wanted=wanted)
    best = []
    for _, at in rows.groupby("t"):
        within = at[at["value"] <= at["wanted"]].sort_values(["evaluations", "value"], kind="stable")
        row = (within if len(within) else at.sort_values("value", kind="stable")).iloc[0]
        best.append(row.reindex(FROM).to_dict() | {"reached": bool(len(within))})
    return pd.DataFrame(best)


def frontier(greedy: pd.DataFrame, lookahead: pd.DataFrame) -> pd.DataFrame:
    """Return for each t the least median error that so many evaluations or fewer reach, by number of evaluations."""
    rows = tried(greedy, lookahead)
    least = rows.groupby(["t", "evaluations"], as_index=False).agg(value=("value", "min"), wanted=("wanted", "first"))
    return least.assign(value=least.groupby("t")["value"].cummin())


def advice(greedy: pd.DataFrame, lookahead: pd.DataFrame) -> pd.DataFrame:
    """Return ``best_lookahead`` for the error that was asked for and those of ``WANTED``, from large to small."""
    asked = float(greedy["wanted"].iloc[0])
    errors = sorted({asked, *WANTED}, reverse=True)
    return pd.concat([best_lookahead(greedy, lookahead, error) for error in errors], ignore_index=True)


def advice_lines(table: pd.DataFrame) -> list[str]:
    """Return one line for each wanted error: which gradient to take at which times."""
    return [_line(wanted, rows.sort_values("t")) for wanted, rows in table.groupby("wanted", sort=False)]


def _line(wanted: float, rows: pd.DataFrame) -> str:
    said = rows.apply(_named, axis=1)
    runs = rows.groupby((said != said.shift()).cumsum(), sort=False)["t"].agg(["min", "max"])
    parts = [
        f"{said[rows.index[rows['t'] == run['min']][0]]} {_times(run['min'], run['max'])}" for _, run in runs.iterrows()
    ]
    if len(parts) == 1 and len(rows) > 1:
        parts = [f"{said.iloc[0]} at every time"]
    return f"For an error of {wanted:g}: {'; '.join(parts)}."


def _times(first: float, last: float) -> str:
    return f"at t = {first:g}" if first == last else f"at t = {first:g} to {last:g}"


def _named(row: pd.Series) -> str:
    """Return a gradient with its evaluations, as one would ask for it, or what was nearest."""
    gradient = "greedy"
    if row["estimator"] != "greedy":
        steps = f"{row['steps']:.0f} {row['solver']} step{'s' * (row['steps'] > 1)}"
        gradient = (
            f"end-to-end, {steps}" if row["horizon"] == 1 else f"lookahead, {steps} over {row['fraction']:g} of the way"
        )
    count = row["evaluations"]
    cost = f"{gradient} ({count:.0f} evaluation{'s' * (count > 1)})"
    return cost if row["reached"] else f"more than was tried, whose least error is {row['value']:.2g}, by {cost},"
