"""Error of the guidance gradient against what it draws: does accuracy pay, and where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import stats

from figures import style
from figures.outcome_vs_compute import rung_look

TABLES = ("dial", "dial_summary", "dial_correlation", "outcome", "outcome_summary")
QUESTION = "Does a guidance gradient that is more accurate draw better samples, and at which times?"
Tables = Mapping[str, pd.DataFrame]
TRUTHS = {"ideal": "ideal gradient", "score": "likelihood score"}
KINDS: dict[str, Any] = {"tuned": "-", "matched": (0, (1, 1))}
COLOURS = {"ideal": style.BLUE, "score": style.ORANGE}
DIAL = {
    "greedy": "greedy",
    "two_step_euler": "Euler, 2 steps",
    "euler_4": "Euler, 4",
    "midpoint": "midpoint, 1",
    "midpoint_4": "midpoint, 4",
    "end_to_end": "end-to-end",
}
ASIDE = {"pigdm": "PiGDM", "tmpd": "TMPD"}
TIMES = ("early", "middle", "late")


def look(name: str) -> dict[str, Any]:
    """Return colour and marker, open for few steps, of an estimator."""
    if name in ASIDE:
        return style.method(name)
    return rung_look(f":{name}") | ({"mfc": "white"} if name in ("two_step_euler", "midpoint") else {})


def at(rows: pd.DataFrame, **where: Any) -> pd.DataFrame:
    """Return the rows with these values in these columns."""
    return rows[np.logical_and.reduce([rows[name] == value for name, value in where.items()])]


def whole(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the whole of time."""
    return table[table["end"] - table["start"] == 1]


def thirds(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of single thirds of time, in order, with their "place" 0, 1 or 2."""
    found = table[table["end"] - table["start"] < 1].sort_values("start", kind="stable")
    return found.assign(place=(found["start"] * 3).round().astype(int))


def answer(tables: Tables) -> str:
    """Give the correlations with both truths, how far these are apart, and what each third of time does."""
    summary, ranks = tables["dial_summary"], tables["dial_correlation"]
    return (
        "Spearman's correlation over the estimators of gradient error and energy distance, mean over operators "
        f"({tables['dial']['operator'].nunique()}), is {_both(whole(ranks), 'tuned', verdict=True)}. With the exact "
        f"score's length for all, so that directions alone differ, it is {_both(whole(ranks), 'matched')}. "
        f"{_apart(summary)} {_where(summary, ranks)} {_aside(summary)}{_samplers(tables)}{_reading(tables)}"
    )


def _both(ranks: pd.DataFrame, kind: str, verdict: bool = False) -> str:
    """Give the mean correlation with both truths."""
    found = []
    for truth, name in TRUTHS.items():
        row = at(ranks, truth=truth, kind=kind, operator="all").iloc[0]
        shown = "{value:+.2f} [{low:+.2f}, {high:+.2f}]".format(**row)
        found.append(f"{shown} for the {name}" + f" ({_sign(row)})" * verdict)
    return " and ".join(found)


def _sign(row: pd.Series) -> str:
    """Say what a correlation of error and distance means, where its interval leaves zero out."""
    if row["low"] > 0:
        return "accuracy pays"
    return "accuracy harms" if row["high"] < 0 else "no sign to be told"


def _apart(summary: pd.DataFrame) -> str:
    """Say how far the ideal gradient and greedy's are from the score."""
    found = []
    for estimator, name in (("ideal", "the ideal gradient"), ("greedy", "greedy's")):
        rows = at(thirds(summary), estimator=estimator, operator="all")
        off, long = (at(rows, quantity=f"score_{q}")["mean"].map("{:.2g}".format) for q in ("error", "length"))
        found.append(f"{name} is off the score by {', '.join(off)} and {', '.join(long)} times as long")
    times = ", ".join(TIMES[i] for i in sorted(set(thirds(summary)["place"])))
    return f"By time ({times}) {'; '.join(found)}."


def _where(summary: pd.DataFrame, ranks: pd.DataFrame) -> str:
    """Say how much the estimators differ when they stand in for the score in a third of time."""
    rows, found = at(thirds(summary), operator="all"), []
    for place, part in rows[rows["estimator"].isin(DIAL) & rows["quantity"].isin(KINDS)].groupby("place"):
        ends = [at(part, quantity=kind)["mean"].agg(["min", "max"]) for kind in KINDS]
        spans = " and ".join(f"{low:.3f} to {high:.3f}" for low, high in ends)
        found.append(f"{TIMES[int(str(place))]} {spans}, with {_both(at(thirds(ranks), place=place), 'matched')}")
    return (
        "In one third of time alone, the exact score elsewhere, they come to (tuned scale and score's length) "
        f"{'; '.join(found)} at the latter."
    )


def _aside(summary: pd.DataFrame) -> str:
    """Say where the estimators that aim at the score come to, beside greedy."""
    rows = at(whole(summary), operator="all").set_index(["estimator", "quantity"])
    found = []
    for name in (r for r in ASIDE if r in rows.index):
        error, (tuned, matched) = rows.loc[(name, "score_error")], (rows.loc[(name, kind)] for kind in KINDS)
        less = " to ".join(f"{tuned[f'over_greedy_{end}']:+.2f}" for end in ("low", "high"))
        found.append(
            f"{ASIDE[name]}, off the score by {error['mean']:.2f}, comes to {tuned['mean']:.2f} ({less} beside "
            f"greedy), with the score's length to {matched['mean']:.2f}"
        )
    return f"Off the dial, {'; '.join(found)}. " if found else ""


def _samplers(tables: Tables) -> str:
    """Correlate with the samplers of ``outcome_vs_compute`` too, where enough estimators were run."""
    table, errors = at(tables["outcome_summary"], metric="energy_distance"), whole(tables["dial_summary"])
    table = table[table["noise"].isin(errors["noise"])]
    found = []
    for family in ("likelihood", "dps"):
        rows = at(table, family=family).assign(estimator=lambda r: r["estimator"].str.split(":").str[1])
        values = [_ranked(rows, at(errors, quantity=f"{truth}_error")) for truth in TRUTHS]
        if all(values):
            means = " and ".join(f"{np.mean(v):+.2f}" for v in values)
            found.append(f"{means} with {family.replace('dps', 'DPS')} steps")
    return f"The samplers of outcome_vs_compute give {', '.join(found)}. " if found else ""


def _ranked(rows: pd.DataFrame, errors: pd.DataFrame) -> list[float]:
    pairs = rows.merge(errors, on=["operator", "estimator"], suffixes=("", "_error")).groupby("operator")
    return [float(stats.spearmanr(p["mean_error"], p["mean"]).statistic) for _, p in pairs if len(p) > 2]


def _reading(tables: Tables) -> str:
    table = tables["dial"]
    runs = table.drop_duplicates(["operator", "estimator", "start", "end", "quantity"])
    return (
        "Errors are at the best scale of each state, means over times in a to f, where solid paths have a tuned scale, "
        f"dotted ones the score's length. {table['measurement'].nunique()} measurements, noise "
        f"{table['noise'].iloc[0]:g}, 95 % bootstrap intervals over measurements; {table['value'].isna().sum()} values "
        f"are lost, {runs['failed_samples'].sum()} samples diverged."
    )


def draw(tables: Tables) -> Figure:
    """Draw the dial's path by operator for both truths, then the errors, outcomes and correlations by time."""
    style.apply()
    summary, ranks = tables["dial_summary"], tables["dial_correlation"]
    shown = [o for o in dict.fromkeys(at(thirds(summary), quantity="tuned")["operator"]) if o != "all"]
    figure = plt.figure(figsize=(style.TEXT_WIDTH, 5.9))
    upper, lower = np.ravel(np.asarray(figure.subfigures(2, 1, height_ratios=(2, 1.1))))
    axes = upper.subplots(2, len(shown), sharex=True, sharey=True, squeeze=False)
    for row, truth in zip(axes, TRUTHS, strict=True):
        for ax, operator in zip(row, shown, strict=True):
            _paths(ax, at(whole(summary), operator=operator), truth)
            _note(ax, at(whole(ranks), truth=truth, kind="tuned", operator=operator))
        row[0].set_ylabel("energy distance")
        row[len(shown) // 2].set_xlabel(f"error against the {TRUTHS[truth]}", labelpad=1)
    for ax, operator in zip(axes[0], shown, strict=True):
        ax.set_title(str(operator).replace("_", " "))
    by_time = lower.subplots(1, 3)
    _errors(by_time[0], thirds(summary))
    _windows(by_time[1], thirds(summary))
    _correlations(by_time[2], at(thirds(ranks), operator="all"))
    upper.legend(handles=_legend(summary), loc="outside lower center", ncols=5, columnspacing=1.2)
    return style.finish(figure, [*axes.ravel(), *by_time])


def _paths(ax: Axes, rows: pd.DataFrame, truth: str) -> None:
    wide = rows.set_index(["quantity", "estimator"])
    error = wide.loc[f"{truth}_error"]
    for kind, dash in KINDS.items():
        found = wide.loc[kind]
        estimators = [r for r in DIAL if r in found.index]
        ax.plot(
            error.loc[estimators, "mean"], found.loc[estimators, "mean"], color="0.6", linestyle=dash, linewidth=0.8
        )
        for name in found.index:
            _point(ax, error.loc[name, "mean"], found.loc[name], name, xerr=_bars(error.loc[name]))
    ax.axhline(0, **style.THEORY)
    ax.axvline(error.loc["ideal", "mean"], color=style.BLUE, linewidth=0.8, linestyle=(0, (1, 1)), zorder=0)


def _bars(row: pd.Series) -> np.ndarray:
    return np.maximum([[row["mean"] - row["low"]], [row["high"] - row["mean"]]], 0)


def _point(ax: Axes, x: float, row: pd.Series, name: str, **bars: Any) -> None:
    ax.errorbar(x, row["mean"], yerr=_bars(row), **bars, linestyle="none", elinewidth=0.6, **look(name))


def _note(ax: Axes, rows: pd.DataFrame) -> None:
    text = "$\\rho$ = {value:+.2f} [{low:+.2f}, {high:+.2f}]".format(**rows.iloc[0])
    ax.annotate(text, (0.98, 0.99), xycoords="axes fraction", ha="right", va="top", fontsize=6)


def _clock(ax: Axes, label: str) -> None:
    ax.set_xticks(range(len(TIMES)), TIMES)
    ax.set(xlim=(-0.5, len(TIMES) - 0.5), ylabel=label)


def _errors(ax: Axes, rows: pd.DataFrame) -> None:
    for name, colour in (("greedy", style.RED), ("ideal", style.BLUE)):
        for operator, part in at(rows, quantity="score_error", estimator=name).groupby("operator"):
            line = {"linewidth": 1.4, "label": name} if operator == "all" else {"linewidth": 0.5, "alpha": 0.6}
            ax.plot(part["place"], part["mean"], color=colour, **line)
    _clock(ax, "error against the score")
    ax.set_ylim(0, 1)
    ax.legend(loc="lower left")


def _windows(ax: Axes, rows: pd.DataFrame) -> None:
    rows = at(rows, operator="all", quantity="matched")
    estimators = [r for r in (*DIAL, *ASIDE) if r in set(rows["estimator"])]
    for name, shift in zip(estimators, np.linspace(-0.35, 0.35, len(estimators)), strict=True):
        for _, row in at(rows, estimator=name).iterrows():
            _point(ax, row["place"] + shift, row, name)
    ax.axhline(0, **style.THEORY)
    _clock(ax, "energy distance")


def _correlations(ax: Axes, rows: pd.DataFrame) -> None:
    for i, (truth, kind) in enumerate((t, k) for t in TRUTHS for k in KINDS):
        part = at(rows, truth=truth, kind=kind)
        bars = np.maximum([part["value"] - part["low"], part["high"] - part["value"]], 0)
        marks: dict[str, Any] = {"color": COLOURS[truth], "marker": "os"[truth == "score"], "linestyle": "none"}
        marks |= {"mfc": "white", "elinewidth": 0.6} if kind == "matched" else {"label": TRUTHS[truth]}
        ax.errorbar(part["place"] + (i - 1.5) * 0.15, part["value"], yerr=bars, **marks)
    ax.axhline(0, **style.THEORY)
    _clock(ax, "rank correlation")
    ax.set(ylim=(-1.1, 1.9), yticks=(-1, 0, 1))
    ax.legend(loc="upper left")


def _legend(summary: pd.DataFrame) -> list[Line2D]:
    names = {k: v for k, v in (DIAL | ASIDE).items() if k in set(summary["estimator"])}
    handles = [Line2D([], [], linestyle="none", label=label, **look(name)) for name, label in names.items()]
    dashes = {"tuned": "tuned scale", "matched": "the score's length"}
    return [*handles, *(Line2D([], [], color="0.6", linestyle=KINDS[k], label=v) for k, v in dashes.items())]
