"""Statistics of property-guided molecules: means and paired differences with intervals, and facts for captions.

Property "all" pools the molecules of all properties: their errors are divided by the property's spread in the data, in
molecules of as many atoms (``targets.statistics``), which is what the best constant errs by. Means are over all
molecules ("all") and over those whose atoms are stable ("stable"), since an error of a broken molecule says little.
Means and differences of fewer than ``LEAST`` molecules have no interval, since a bootstrap of so few says nothing, and
no order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from analysis import intervals
from analysis.tables import only
from real_models.molecules import data, dft, gallery

ERRORS = {"error": "evaluator", "guide_error": "guide", "xtb_error": "xtb", dft.METRIC: "dft"}  # and their judges
TUNING, ALL, STABLE = "tuning", "all", "stable"
LEAST = 8  # molecules for an interval
BASELINE, ACCURATE, UNGUIDED = "greedy", "end_to_end", "unguided"
PLACE = ["setting", "estimator", "budget"]
END = "at_end_of_range"
OTHERS = ("late", "guidance", "guidance_stable", "controls")  # settings other than source optimisation from the noise
SPENT = ["count", "evaluations", "vjps", "chosen"]
SUMMARY = ["property", "metric", "over"]
CHOICES = [*PLACE, "chosen", "count", "value", "status", END]
PAIRED = ["setting", "budget", "estimator", "metric", "over", "property", "against"]


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the tables "summary", "paired", "tuning", "atoms" and "bonds" (of some molecules) and "facts"."""
    made = table[table["metric"] != TUNING].reset_index(drop=True)
    last = dft.errors(made)
    made = pd.concat([made, last], ignore_index=True) if len(last) else made
    values = relative(made)
    tables = {"summary": summary(values), "paired": paired(values)}
    tables["tuning"] = table.loc[table["metric"] == TUNING, [c for c in CHOICES if c in table]].reset_index(drop=True)
    tables |= gallery.drawn(made)
    return tables | {"facts": facts(**{name: tables[name] for name in ("summary", "paired")}, made=made)}


def relative(made: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with their errors over the spread of the data (``relative``), and whether each is stable."""
    errors = made["metric"].isin(ERRORS)
    stable = only(made, metric="stable").set_index([*PLACE, "order"])["value"] == 1
    places = pd.MultiIndex.from_frame(made[[*PLACE, "order"]])
    return made.assign(
        relative=np.where(errors, made["value"] / made["spread"], made["value"]),
        stable=stable.reindex(places).to_numpy(),
    )


def _parts(values: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame, str]]:
    """Yield what a mean is of, its rows, and the column of its values."""
    for metric, rows in values.groupby("metric", sort=False):
        for over in (ALL, STABLE) if metric in ERRORS else (ALL,):
            some = rows[rows["stable"]] if over == STABLE else rows
            about = {"metric": metric, "over": over}
            yield about | {"property": ALL}, some, "relative"
            for name, part in some.groupby("property", sort=False):
                yield about | {"property": name}, part, "value"


def interval(made: intervals.Interval) -> dict[str, Any]:
    """Return the columns of an interval, without its ends where it is of fewer than ``LEAST`` values."""
    few = made.measurements - made.failed < LEAST
    return asdict(made) | ({"low": np.nan, "high": np.nan} if few else {})


def summary(values: pd.DataFrame) -> pd.DataFrame:
    """Return means over molecules with intervals, by setting, estimator, budget, property, metric and molecules."""
    spent = values.drop_duplicates(PLACE).set_index(PLACE)[[c for c in SPENT if c in values]]
    rows = []
    for about, part, column in _parts(values):
        for key, some in part.groupby(PLACE, sort=False):
            row = dict(zip(PLACE, key, strict=True)) | about | spent.loc[key].to_dict()
            rows.append(row | interval(intervals.interval(some[column].to_numpy(float))))
    table = pd.DataFrame(rows).assign(work=lambda rows: rows["evaluations"] + rows["vjps"])
    spread = table["property"].map(values.groupby("property")["spread"].mean()).fillna(1.0)
    scale = np.where(table["metric"].isin(ERRORS), spread, 1.0)
    return table.assign(**{f"relative_{name}": table[name] / scale for name in ("mean", "low", "high")})


def paired(values: pd.DataFrame) -> pd.DataFrame:
    """Return mean differences of errors to greedy in the same setting and budget, with intervals, on equal targets.

    Over "stable" they are of the targets for which the molecules of both are.

    Returns
    -------
    DataFrame
        A row per setting, budget, estimator, metric, property and molecules.
    """
    rows = []
    for about, part, column in _parts(values[values["metric"].isin(ERRORS)]):
        wide = part.pivot(index=["setting", "budget", "order"], columns="estimator", values=column)
        for place, some in wide.groupby(level=["setting", "budget"], sort=False):
            if BASELINE not in some or some[BASELINE].isna().all():
                continue
            for name in some.columns[some.notna().any()].drop(BASELINE):
                both = some[[name, BASELINE]].dropna().to_numpy(float)
                row = dict(zip(("setting", "budget"), place, strict=True)) | {"estimator": name} | about
                if len(both):
                    rows.append(row | {"against": BASELINE} | interval(intervals.paired_interval(*both.T)))
    return pd.DataFrame(rows, columns=[*PAIRED, *intervals.Interval.__dataclass_fields__])


def facts(summary: pd.DataFrame, paired: pd.DataFrame, made: pd.DataFrame) -> pd.DataFrame:
    """Return what captions state of source optimisation at its largest budget, and the order in other settings."""
    guided = summary[summary["estimator"] != UNGUIDED]
    last = only(guided, setting="source", budget=only(guided, setting="source")["budget"].max())
    row: dict[str, Any] = {"budget": int(last["budget"].max()), "properties": made["property"].nunique()}
    row |= {"molecules": int(only(last, metric="error", property=ALL, over=ALL)["measurements"].max())}
    for over in (ALL, STABLE):
        suffix = "" if over == ALL else "_stable"
        rows = only(last, metric="error", property=ALL, over=over)
        means = (rows if over == ALL else rows[rows["low"].notna()]).set_index("estimator")["mean"]
        if means.empty:
            continue
        row |= {f"best{suffix}": means.idxmin(), f"worst{suffix}": means.idxmax(), f"least{suffix}": means.min()}
    for metric, judge in ERRORS.items():
        row |= _verdicts(last, paired, metric, judge)
    for setting, metric in itertools.product(OTHERS, ("error", "xtb_error")):
        pair = only(paired, setting=setting, estimator=ACCURATE, metric=metric, property=ALL, over=ALL)
        name = f"{setting}_order" if metric == "error" else f"{setting}_xtb_order"
        row |= {name: _order(pair[pair["budget"] == pair["budget"].max()])} if len(pair) else {}
    plain = only(summary, estimator=UNGUIDED)
    row |= _chemistry(last, plain) | {"unguided": only(plain, metric="error", property=ALL, over=ALL)["mean"].iloc[0]}
    row |= _unjudged(only(made, setting="source", budget=row["budget"]))
    chosen = made.loc[made["estimator"] != UNGUIDED, [*PLACE, "chosen", END]].drop_duplicates()
    row |= {END: float(chosen[END].astype(float).mean())}
    return pd.DataFrame([{name: value for name, value in row.items() if value is not None}])


def _unjudged(made: pd.DataFrame) -> dict[str, int]:
    """Return how many molecules GFN2-xTB was given, diverged ones and heat capacities aside, and how many it lost."""
    values = made.pivot(index=["estimator", "order", "property"], columns="metric", values="value")
    if "xtb_error" not in values:
        return {}
    physics = values.loc[values["error"].notna() & (values.index.get_level_values("property") != "Cv"), "xtb_error"]
    return {"judged": len(physics), "unjudged": int(physics.isna().sum())}


def _verdicts(last: pd.DataFrame, paired: pd.DataFrame, metric: str, judge: str) -> dict[str, Any]:
    """Return how end-to-end compares with greedy by one judge."""
    means = only(last, metric=metric, over=ALL).pivot(index="property", columns="estimator", values="mean")
    if not {BASELINE, ACCURATE} <= {*means}:
        return {}
    pairs = only(paired, setting="source", budget=last["budget"].max(), estimator=ACCURATE, metric=metric, over=ALL)
    each, pooled = pairs[pairs["property"] != ALL], pairs[pairs["property"] == ALL]
    row: dict[str, Any] = {"order": _order(pooled), "pairs": int((pooled["measurements"] - pooled["failed"]).sum())}
    row |= {"greedy": means.loc[ALL, BASELINE], "end": means.loc[ALL, ACCURATE]}
    each = each[each["low"].notna()]
    if len(each):
        row |= {"lower": int((each["high"] < 0).sum()), "higher": int((each["low"] > 0).sum()), "compared": len(each)}
    ratios = means[ACCURATE] / means[BASELINE]
    row |= {
        f"ratio_{name}": ratios[name]
        for name in (ALL, *data.PROPERTIES)
        if name in ratios and np.isfinite(ratios[name])
    }
    return {f"{judge}_{name}": value for name, value in row.items()}


def _order(pair: pd.DataFrame) -> str:
    """Return "end" or "greedy", the one with the lower error if the interval of their difference excludes 0.

    Returns
    -------
    str
        "none" where it does not, and "few" where there are too few pairs for an interval.
    """
    if pair.empty or pair["low"].isna().all():
        return "few"
    low, high = pair["low"].iloc[0], pair["high"].iloc[0]
    return "end" if high < 0 else "greedy" if low > 0 else "none"


def _chemistry(last: pd.DataFrame, plain: pd.DataFrame) -> dict[str, Any]:
    """Return the shares of stable and valid molecules: unguided, greedy's and end-to-end's."""
    row: dict[str, Any] = {}
    for metric in ("stable", "stable_atoms", "valid"):
        means = only(last, metric=metric, property=ALL).set_index("estimator")["mean"]
        means = pd.concat([means, only(plain, metric=metric, property=ALL).set_index("estimator")["mean"]])
        row |= {f"{metric}_{name}": means[name] for name in (UNGUIDED, BASELINE, ACCURATE) if name in means}
    return row
