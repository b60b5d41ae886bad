"""When guidance matters: each regime with guidance in one third of time alone, and in all of it.

The paper's proposition 5.2 (arXiv 2502.08006) says that early guidance matters more. Here the moves, or the controls,
are restricted to a window of time; in source optimisation the state at the window's start is optimised. All have the
same number of steps or iterations (``COUNT``); options are chosen by trials on measurements that are not reported, for
each window again. The problem is that of ``regimes``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis import intervals
from analysis.experiment import Cell
from analysis.guidance.regimes import REGIMES, Regime, gradient_in
from analysis.guidance.tuning import trials
from analysis.measurements import MeasuredBatch
from analysis.search import Search
from analysis.settings import Options
from toy_models.experiments import regime_tables
from toy_models.experiments.regime_outcomes import AIMS, ESTIMATORS, batches, metrics

SUITE = "guidance"
WINDOWS = ((0.0, 1 / 3), (1 / 3, 2 / 3), (2 / 3, 1.0), (0.0, 1.0))
WHOLE = WINDOWS[-1]
COUNT = 24  # steps, or iterations
NAMES = ("greedy", "end_to_end")
KEYS = ["regime", "estimator", "aim", "start", "end"]


def cells(options: Options) -> list[Cell]:
    """Return a cell per operator, regime and estimator."""
    operators = regime_tables.OPERATORS[:1] if options.quick else regime_tables.OPERATORS
    names = ("guidance", "source") if options.quick else tuple(REGIMES)
    sizes: dict[str, Any] = {"trials": 8} | (
        {"samples": 4, "members": 2, "exact": 16, "held_out": 4, "trials": 2} if options.quick else {}
    )
    own: dict[str, Any] = {"windows": WINDOWS, "count": 6 if options.quick else COUNT}
    made = []
    for operator, regime, name in ((o, r, n) for o in operators for r in names for n in NAMES):
        cell = regime_tables.cell(options, operator, regime, name, **sizes)
        kept = {k: v for k, v in cell.extra if k not in ("budgets", "nearer", "kept")}
        made.append(replace(cell, measure=f"{__name__}:measure", extra=tuple((kept | own).items())))
    return made


def within(regime: str, window: tuple[float, float]) -> Regime:
    """Return a regime whose guidance acts in a window; a source's is the time of the optimised state."""
    known = REGIMES[regime]
    if regime != "source":
        return replace(known, options={**known.options, "window": window})
    space = {name: values for name, values in known.space.items() if name != "t"}
    return replace(known, options={**known.options, "t": window[0]}, space=space)


def measure(cell: Cell) -> pd.DataFrame:
    """Return a row per window, aim and measurement."""
    flow, tuning, reported = batches(cell)
    extra, name = cell.extra_dict, cell.variants[0].estimator
    place = cell.columns() | {"truth": "exact", "estimator": name}
    place |= {key: extra[key] for key in ("regime", "operator", "noise")}
    choice, rows = gradient_in(extra["regime"], name, ESTIMATORS), list[dict[str, Any]]()
    for window in extra["windows"]:
        if extra["regime"] == "source" and window == WHOLE:
            continue  # the state at its start is that of the first window
        search = Search(flow, within(extra["regime"], window), choice, tuning, metrics, AIMS, cell.seed)
        rows += [place | {"start": window[0], "end": window[1]} | row for row in _rows(search, reported, extra)]
    return pd.DataFrame(rows)


def _rows(search: Search[MeasuredBatch], reported: MeasuredBatch, extra: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows of one window."""
    known = search.counted(trials(search.regime.space, extra["trials"], search.seed), extra["count"])
    for aim in AIMS:
        best = search.best(known, aim, 1)[0]
        sample = search.run(best.options, reported)
        row: dict[str, Any] = {
            "aim": aim,
            "metric": aim,
            "status": "ok",
            "chosen": json.dumps(best.trial, sort_keys=True),
        }
        row |= {"evaluations": sample.cost.evaluations, "vjps": sample.cost.vjps}
        values = metrics(sample, reported)[aim].tolist()
        yield from (row | {"measurement": i, "value": value} for i, value in enumerate(values))


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return means over operators, of misfits geometric ones, of medians over measurements, and the facts."""
    medians = table.groupby([*KEYS, "operator"], sort=False)["value"].median()
    rows = []
    for key, part in medians.groupby(level=KEYS, sort=False):
        row = dict(zip(KEYS, key, strict=True)) | {"operators": len(part)}
        rows.append(row | (regime_tables.geometric(part) if row["aim"] == "misfit" else _arithmetic(part)))
    summary = pd.DataFrame(rows)
    return {"summary": summary, "facts": facts(summary, medians.sort_index())}


def _arithmetic(values: pd.Series) -> dict[str, float]:
    found = intervals.interval_of_few(values.to_numpy())
    return {"mean": found.mean, "low": found.low, "high": found.high}


def facts(summary: pd.DataFrame, medians: pd.Series) -> pd.DataFrame:
    """Return one row: for each regime and aim, end-to-end's outcome in the first window over that in the last.

    ``..._matters`` is "early" or "late", the window alone in which guidance leads to the lower outcome, if the interval
    of the ratio over operators leaves 1 out.

    Returns
    -------
    DataFrame
        One row.
    """
    row: dict[str, Any] = {"operators": int(summary["operators"].max()), "early": 0, "late": 0}
    thirds = summary[summary["end"] - summary["start"] < 1]
    first, last = (tuple(thirds.loc[thirds["start"] == s, ["start", "end"]].iloc[0]) for s in _ends(thirds))
    pairs = summary[["regime", "aim"]].drop_duplicates().itertuples(index=False)
    for regime, aim in pairs:
        early, late = (medians[(regime, NAMES[-1], aim, *window)] for window in (first, last))
        ratio = regime_tables.geometric(early / late)
        row |= {f"{regime}_{aim}{'' if end == 'mean' else f'_{end}'}": value for end, value in ratio.items()}
        matters = "early" if ratio["high"] < 1 else "late" if ratio["low"] > 1 else None
        row[f"{regime}_{aim}_matters"] = matters
        row |= {matters: row[matters] + 1} if matters else {}
    row["cases"] = len(summary[["regime", "aim"]].drop_duplicates())
    return pd.DataFrame([row])


def _ends(thirds: pd.DataFrame) -> tuple[float, float]:
    return thirds["start"].min(), thirds["start"].max()
