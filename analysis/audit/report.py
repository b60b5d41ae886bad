"""What an audit's tables say: lines of plain words, which end in advice.

This module never imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from analysis.audit.advice import advice_lines

CLOSE = 0.1  # "close to" the measured error: within a tenth of it


def facts(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return what the captions of an audit's figures state, in one row."""
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
    row["at"] = "one" if len(error) == 1 else "several"
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
    """Return the time from which on the leading-term estimate is close to the error, if there is one."""
    off = (by["leading_term"] / by["relative_error"] - 1).abs()
    return min((t for t in off.index if (off[off.index >= t] <= CLOSE).all()), default=None)


def words(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return lines that say what the tables do, and what to do."""
    greedy = tables["audit"].pivot(index="t", columns="metric", values="value").sort_index()
    return [
        _greedy(greedy["relative_error"], tables["audit"]),
        _direction(greedy),
        _estimate(greedy, tables["audit"]),
        _truth(tables["audit"], tables["audit_fine"]),
        *advice_lines(tables["audit_advice"]),
    ]


def _greedy(error: pd.Series, table: pd.DataFrame) -> str:
    wanted, n = table["wanted"].iloc[0], int(table["samples"].max())
    first, last = f"{error.iloc[0]:.2g} at t = {error.index[0]:g}", f"{error.iloc[-1]:.2g} at t = {error.index[-1]:g}"
    median = f"Greedy's relative error (median of {n} states)"
    if len(error) == 1:
        return f"{median} is {first}, {'within' if error.iloc[0] <= wanted else 'above'} the wanted {wanted:g}."
    good = [t for t in error.index if (error[error.index >= t] <= wanted).all()]
    if not good:
        when = f"is above {wanted:g} at t = {error.index[-1]:g} and before"
        if (error <= wanted).any():
            when = f"is within {wanted:g} at some times alone, and above it at the last"
    else:
        when = f"is within {wanted:g} " + (
            "throughout" if min(good) == error.index[0] else f"from t = {min(good):g} on"
        )
    return f"{median} goes from {first} to {last}; it {when}."


def _direction(greedy: pd.DataFrame) -> str:
    cosine, length = 1 - greedy["one_minus_cosine"], greedy["norm_ratio"]
    if len(cosine) == 1:
        return (
            f"Its cosine with the ideal gradient is {cosine.iloc[0]:.3g} there, and its length {length.iloc[0]:.2g} "
            "times the ideal one."
        )
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
    subject = "The leading-term estimate of that error, which needs no reference, is"
    last = f"{ratio.iloc[-1]:.2g} times it at t = {ratio.index[-1]:g}"
    if len(ratio) == 1:
        return f"{subject} {last}."
    when = (
        "not within a tenth of it at the last time"
        if since is None
        else f"within {CLOSE:.0%} of it from t = {since:g} on"
    )
    return f"{subject} {when}: {ratio.iloc[0]:.2g} times it at t = {ratio.index[0]:g}, and {last}."


def _truth(greedy: pd.DataFrame, fine: pd.DataFrame) -> str:
    errors = greedy[greedy["metric"] == "relative_error"]
    last = fine[fine["metric"] == "change_by_doubling"].groupby("t").last()
    apart = fine[fine["metric"] == "distance_to_reference"]
    first, failed, states = errors.iloc[0], int(errors["failed"].sum()), int(errors["samples"].sum())
    known = f"all {states} states have such a truth"
    if failed:
        known = f"{failed} of {states} states have no such truth and are left out of all medians"
    return (
        f"The truth: {first['truth']} solves in {first['truth_dtype']}, relative error at most "
        f"{errors['reference_bound'].max():.1g}; an independent RK4 solve moves by {last['value'].max():.1g} in its "
        f"last doubling (to {last['steps'].max():.0f} steps at most) and ends {apart['value'].max():.1g} from it "
        f"(largest medians); {known}."
    )
