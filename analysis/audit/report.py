"""The report of an audit's tables: the smallest sufficient lookahead, and five lines of plain words.

This module never imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

CLOSE = 0.1  # "close to" the measured error: within a tenth of it
FROM = ["t", "zeta", "wanted", "estimator", "solver", "steps", "horizon", "fraction", "evaluations", "value"]


def best_lookahead(greedy: pd.DataFrame, lookahead: pd.DataFrame) -> pd.DataFrame:
    """Select for each t the gradient of least evaluations, then of least median error, within the wanted error.

    If there is none, the row is that of the least error, and ``reached`` is false.

    Returns
    -------
    DataFrame
        One row per t.
    """
    tried = pd.concat([greedy[greedy["metric"] == "relative_error"], lookahead])
    best = []
    for _, rows in tried[tried["failed"] < tried["samples"]].groupby("t"):
        within = rows[rows["value"] <= rows["wanted"]].sort_values(["evaluations", "value"], kind="stable")
        row = (within if len(within) else rows.sort_values("value", kind="stable")).iloc[0]
        best.append(row.reindex(FROM).to_dict() | {"reached": bool(len(within))})
    return pd.DataFrame(best)


def frontier(greedy: pd.DataFrame, lookahead: pd.DataFrame) -> pd.DataFrame:
    """Return for each t the least median error within each number of evaluations."""
    tried = pd.concat([greedy[greedy["metric"] == "relative_error"], lookahead])
    least = tried.groupby(["t", "evaluations"], as_index=False).agg(value=("value", "min"), wanted=("wanted", "first"))
    return least.assign(value=least.groupby("t")["value"].cummin())


def facts(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the facts in the captions of an audit's figures, in one row."""
    table, best = tables["audit"], tables["audit_best"]
    by = table.pivot(index="t", columns="metric", values="value").sort_index()
    error, first = by["relative_error"], table.iloc[0]
    row = {
        "subject": first["problem"],
        "wanted": first["wanted"],
        "states": int(table["samples"].max()),
        "close": CLOSE,
    }
    row |= {"first_t": error.index[0], "first": error.iloc[0], "last_t": error.index[-1], "last": error.iloc[-1]}
    close_t = _close_from(by)
    computed = by["leading_term"].notna().all()
    row["estimate"] = ("apart" if close_t is None else "close") if computed else "none"
    row |= {} if close_t is None else {"close_t": close_t}
    reached = best[best["reached"]]
    row |= {"times": len(best), "reached_times": len(reached)}
    row["reached"] = "none" if reached.empty else "all" if len(reached) == len(best) else "some"
    row |= {"most": reached["evaluations"].max()} if len(reached) else {}
    return pd.DataFrame([row])


def _close_from(by: pd.DataFrame) -> float | None:
    """Return the time from which on the leading-term estimate is close to the error, if any."""
    off = (by["leading_term"] / by["relative_error"] - 1).abs()
    return min((t for t in off.index if (off[off.index >= t] <= CLOSE).all()), default=None)


def words(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return the tables' findings in five lines of words."""
    greedy = tables["audit"].pivot(index="t", columns="metric", values="value")
    return [
        _greedy(greedy["relative_error"], tables["audit"]),
        _direction(greedy),
        _estimate(greedy, tables["audit"]),
        _best(tables["audit_best"]),
        _truth(tables["audit"], tables["audit_fine"]),
    ]


def _greedy(error: pd.Series, table: pd.DataFrame) -> str:
    wanted, n = table["wanted"].iloc[0], int(table["samples"].max())
    good = [t for t in error.index if (error[error.index >= t] <= wanted).all()]
    when = f"stays within {wanted:g} from t = {min(good):g} on" if good else f"does not stay within {wanted:g}"
    return (
        f"Greedy's relative error (median of {n} states) goes from {error.iloc[0]:.2g} at t = {error.index[0]:g} to "
        f"{error.iloc[-1]:.2g} at t = {error.index[-1]:g}; it {when}."
    )


def _direction(greedy: pd.DataFrame) -> str:
    cosine, length = 1 - greedy["one_minus_cosine"], greedy["norm_ratio"]
    return (
        f"Its direction is worst at t = {cosine.idxmin():g}, cosine {cosine.min():.3g}, and best at "
        f"t = {cosine.idxmax():g}, {cosine.max():.3g}; its length is {length.min():.2g} to {length.max():.2g} times "
        "the ideal one."
    )


def _estimate(greedy: pd.DataFrame, table: pd.DataFrame) -> str:
    failed = table[(table["metric"] == "leading_term") & (table["status"] != "ok")]
    if len(failed):
        return f"The leading-term estimate cannot be computed: {failed['status'].iloc[0]}"
    ratio, since = greedy["leading_term"] / greedy["relative_error"], _close_from(greedy)
    when = f"not within {CLOSE:.0%} of it up to the end"
    if since is not None:
        when = f"within {CLOSE:.0%} of it from t = {since:g} on"
    return (
        f"The leading-term estimate of that error, which needs no reference, is {when}; it is {ratio.iloc[-1]:.2g} "
        f"times it at t = {ratio.index[-1]:g} and {ratio.iloc[0]:.2g} times at t = {ratio.index[0]:g}."
    )


def _best(best: pd.DataFrame) -> str:
    named = best.apply(lambda row: _named(row) if row["reached"] else "none tried", axis=1)
    runs = best.groupby((named != named.shift()).cumsum(), sort=False)["t"].agg(["min", "max"])
    parts = [
        f"{named[named.index[best['t'] == run['min']]].iloc[0]} at t = {run['min']:g}"
        + (f" to {run['max']:g}" if run["max"] > run["min"] else "")
        for _, run in runs.iterrows()
    ]
    return f"The fewest evaluations whose median error is within {best['wanted'].iloc[0]:g}: {'; '.join(parts)}."


def _named(row: pd.Series) -> str:
    if row["estimator"] == "greedy":
        return "1 (greedy)"
    to = "to the end" if row["horizon"] == 1 else f"{row['fraction']:g} of the way"
    return f"{row['evaluations']:.0f} ({row['solver']}, {row['steps']:.0f} step{'s' * (row['steps'] > 1)} {to})"


def _truth(greedy: pd.DataFrame, fine: pd.DataFrame) -> str:
    errors = greedy[greedy["metric"] == "relative_error"]
    last = fine[fine["metric"] == "change_by_doubling"].groupby("t").last()
    apart = fine[fine["metric"] == "distance_to_reference"]
    first = errors.iloc[0]
    return (
        f"The truth: {first['truth']} solves in {first['truth_dtype']}, relative error at most "
        f"{errors['reference_bound'].max():.1g}; an independent RK4 solve moves by {last['value'].max():.1g} in its "
        f"last doubling (to {last['steps'].max():.0f} steps at most) and ends {apart['value'].max():.1g} from it "
        f"(largest medians); {errors['failed'].sum():.0f} of {errors['samples'].sum():.0f} states have no such truth."
    )
