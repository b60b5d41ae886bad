"""Adaptive lookahead against its tolerance, and its cost beside fixed numbers of steps, on problems it was not set on.

The rule's constants were set on other problems (see ``analysis.gradients._adaptive``); those here, from easy to hard,
played no part. The fixed numbers of steps have every advantage: the same solver and time as the rule and other ones,
and the best of them all is chosen with hindsight.

Beside them are families with structure much thinner than a step (``toy_models.problems.thin_judges``), which had no
part in the rule either. There it may miss its tolerance, and the question is whether it says so: each kind is judged by
the share of its states that are within the tolerance or reported as unsure. They are not among the problems that are
pooled, and no fixed steps are measured on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis import canonical
from analysis.cost import Cost
from analysis.errors import relative_error
from analysis.experiment import Cell, StateBatch, sample_states
from analysis.gradients import end_to_end, greedy
from analysis.gradients._adaptive import STEP_COUNTS, choices
from analysis.gradients.mesh_solves import SOLVER
from analysis.settings import Options
from analysis.tables import only
from toy_models.cells import error_cell
from toy_models.problems.families import FAMILIES
from toy_models.problems.thin_judges import JUDGES

SUITE = "theory"
TIMES = tuple(round(0.1 * k, 1) for k in range(1, 10))
TOLERANCES = (0.3, 0.1, 0.03, 0.01)
DRAWS = {"vp_linear": 3, "ve": 4, "polynomial": 5}
"""The seed of each family's problem along each path; the rule was set on others, and 0 to 2 judged the one before."""
STEPS = tuple(n for n in STEP_COUNTS if n <= 64)
SHARE = 0.95  # of the states have to be within the tolerance
COVERED, UNSURE = 0.92, 0.1  # least share of a kind within the tolerance or unsure, largest share of all that is unsure
SHOWN = 0.1  # the tolerance at which choices are shown
BANDS = {0: "0 (greedy)", 3: "2–3", 5: "4–5", 8: "6–8", 12: "9–12", 24: "14–24", np.inf: "> 24"}
TIME, COSINE = "fixed, in t", "fixed, in cosine time"


def cells(options: Options) -> list[Cell]:
    """Return one cell per family and path, each of a problem of its own."""
    steps, times, tolerances = (STEPS[:5], TIMES[::4], TOLERANCES[:2]) if options.quick else (STEPS, TIMES, TOLERANCES)
    judged = [("families", FAMILIES, steps), ("thin_judges", JUDGES, ())]
    made = []
    for module, names, fixed in judged:
        own: dict[str, Any] = {"measure": f"{__name__}:measure", "factory": f"toy_models.problems.{module}:subject"}
        own["extra"] = (("steps", fixed), ("tolerances", tolerances))
        pairs = [(f"{name}_{seed}", path) for name in names for path, seed in DRAWS.items()]
        pairs = [(f"{'clusters' if fixed else 'levels'}_3", "vp_linear")] if options.quick else pairs
        made += [error_cell(options, problem, path, times, 4, (), **own) for problem, path in pairs]
    return made


def measure(cell: Cell) -> pd.DataFrame:
    """Measure adaptive at every state and tolerance, and the cell's fixed step counts, if any, at every tolerance.

    ``within`` is the share of a row's ``samples`` whose true relative error is at most the tolerance; states without a
    good reference count as outside. Evaluations and products are per sample, means over the cell.

    Returns
    -------
    DataFrame
        One row per state and tolerance of adaptive, one per fixed solve and tolerance.
    """
    batch, extra = sample_states(cell), cell.extra_dict
    x = batch.x.to(cell.device, batch.subject.flow.dtype or torch.float64)
    rows = [
        row | batch.columns
        for part in (
            adaptive_rows(batch, x, extra["tolerances"]),
            fixed_rows(batch, x, extra) if extra["steps"] else (),
        )
        for row in part
    ]
    return pd.DataFrame(rows)


def adaptive_rows(batch: StateBatch, x: Tensor, tolerances: Sequence[float]) -> Iterator[dict[str, Any]]:
    """Yield a row per tolerance and state: the true error, its estimate, the number of steps, and if it is unsure."""
    for tolerance in tolerances:
        adaptive = choices(batch.subject.flow, batch.loss, x, batch.t, tolerance=tolerance)
        error = relative_error(adaptive.gradient.double().cpu(), batch.reference.gradient)
        columns = (batch.t, error, adaptive.error.cpu(), adaptive.steps.cpu(), adaptive.unsure.cpu())
        for t, e, estimate, steps, unsure in zip(*(c.tolist() for c in columns), strict=True):
            row = {"estimator": "adaptive", "tolerance": tolerance, "t": t, "error": e, "estimate": estimate}
            row |= {"steps": steps, "unsure": float(unsure), "within": float(e <= tolerance), "samples": 1}
            yield row | spent(adaptive.cost)


def fixed_rows(batch: StateBatch, x: Tensor, extra: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a row per fixed solve and tolerance: greedy, two solvers in t, and two in adaptive's time."""
    flow, loss, t = batch.subject.flow, batch.loss, batch.t
    solves = [(TIME, "ddim", 0, greedy(flow, loss, x, t))]
    for n in extra["steps"]:
        solves += [(TIME, s, n, end_to_end(flow, loss, x, t, steps=n, solver=s)) for s in ("euler", "midpoint")]
        solves += [(COSINE, s, n, in_cosine_time(batch, x, n, s)) for s in ("midpoint", SOLVER)]
    for estimator, solver, n, estimate in solves:
        error = relative_error(estimate.gradient.double().cpu(), batch.reference.gradient)
        for tolerance in extra["tolerances"]:
            named = {"estimator": estimator, "solver": solver, "steps": n, "tolerance": tolerance}
            within = float((error <= tolerance).double().mean())
            yield named | {"within": within, "samples": len(x)} | spent(estimate.cost)


def in_cosine_time(batch: StateBatch, x: Tensor, steps: int, solver: str) -> Any:
    """Return the end-to-end estimate whose steps are equal in the time of the cosine path."""
    view = canonical.view(batch.subject.flow, batch.t)

    def loss(y: Tensor) -> Tensor:
        return batch.loss(view.leave(y))

    estimate = end_to_end(view.flow, loss, view.enter(x), view.begin, steps=steps, solver=solver)
    return replace(estimate, gradient=view.enter(estimate.gradient))


def spent(cost: Cost) -> dict[str, float]:
    """Return evaluations and products per sample."""
    return {"evaluations": cost.evaluations, "vjps": cost.vjps}


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Compare adaptive's cost with that of the cheapest fixed solve that keeps enough states within the tolerance.

    There is one row per tolerance and estimator, for each problem and path and for all of them pooled ("all"). The
    families with thin structure have a part in the table "kinds" alone.

    Returns
    -------
    dict
        The tables "summary", "choices", "families", "kinds" and "facts".
    """
    thin = table["problem"].map(kind_of).isin(list(JUDGES))
    smooth, kinds = table[~thin], by_kind(only(table, estimator="adaptive"))
    rows = []
    groups = [*smooth.groupby(["problem", "path"], sort=False), (("all", "all"), smooth)]
    for (problem, path), group in groups:
        for (tolerance, kind), part in group.groupby(["tolerance", "estimator"], sort=False):
            named = {"problem": problem, "path": path, "tolerance": tolerance, "estimator": kind}
            rows.append(named | (adaptive_summary(part) if kind == "adaptive" else cheapest(part)))
    summary, own = pd.DataFrame(rows), only(smooth, estimator="adaptive")
    shares = {"choices": chosen(own), "families": families(own), "kinds": kinds}
    return {"summary": summary} | shares | {"facts": facts(summary).join(judgement(kinds))}


def kind_of(problem: str) -> str:
    """Return the family of a problem, as in "family_seed"."""
    return problem.rpartition("_")[0]


def by_kind(own: pd.DataFrame) -> pd.DataFrame:
    """Return for each family, and per tolerance and over all, the shares within it, unsure, and either.

    ``tolerance`` is missing in the rows over all tolerances; ``thin`` says whether a family has thin structure.

    Returns
    -------
    DataFrame
        One row per family and tolerance, and one per family.
    """
    own = own.assign(kind=own["problem"].map(kind_of), either=np.maximum(own["within"], own["unsure"]))
    own = own.assign(work=own["evaluations"] + own["vjps"], thin=own["kind"].isin(list(JUDGES)))
    shares = ["within", "unsure", "either", "work"]
    single = own.groupby(["kind", "thin", "tolerance"], sort=False)[shares].mean().reset_index()
    return pd.concat([own.groupby(["kind", "thin"], sort=False)[shares].mean().reset_index(), single])


def judgement(kinds: pd.DataFrame) -> pd.DataFrame:
    """Give the least share of a thin kind that is within the tolerance or unsure, and how many states are unsure."""
    pooled = kinds[kinds["tolerance"].isna()]
    thin, smooth = pooled[pooled["thin"]], pooled[~pooled["thin"]]
    row: dict[str, Any] = {"covered_share": COVERED, "unsure_share": UNSURE, "kinds": len(thin)}
    if len(thin):
        worst = thin.loc[thin["either"].idxmin()]
        row |= {"covered_kind": worst["kind"], "covered": worst["either"], "thin_within": thin["within"].min()}
        row |= {"unsure": thin["unsure"].mean(), "unsure_smooth": smooth["unsure"].mean()}
        row["knows"] = bool(row["covered"] >= COVERED and row["unsure"] <= UNSURE)
    return pd.DataFrame([row])


def chosen(own: pd.DataFrame) -> pd.DataFrame:
    """Return the share of states by time and band of step counts, at the tolerance ``SHOWN``."""
    rows = only(own, tolerance=SHOWN)
    bands = pd.cut(rows["steps"], [-1, *BANDS], labels=list(BANDS.values()))
    share = pd.crosstab(bands, rows["t"], normalize="columns").stack().rename("share")  # bands in their order
    share = share.rename_axis(["band", "t"]).reset_index().astype({"band": str})
    return share[share["share"] > 0].reset_index(drop=True)


def families(own: pd.DataFrame) -> pd.DataFrame:
    """Return the share within the tolerance and the 95th percentile of the error by family, as in "family_seed"."""
    groups = own.groupby([own["problem"].map(kind_of), "tolerance"], sort=False)
    return pd.DataFrame([{"family": name, "tolerance": t} | adaptive_summary(part) for (name, t), part in groups])


def facts(summary: pd.DataFrame) -> pd.DataFrame:
    """Give how often the tolerance is met, and adaptive's cost over that of the cheapest fixed step count in t."""
    pooled, single = only(summary, problem="all"), summary[summary["problem"] != "all"]
    own, single = only(pooled, estimator="adaptive").set_index("tolerance"), only(single, estimator="adaptive")
    fixed = only(pooled, estimator=TIME, status="ok").set_index("tolerance")
    row: dict[str, Any] = {"within_low": own["within"].min(), "within_high": own["within"].max(), "share": SHARE}
    row |= {"tightest": own.index.min(), "loosest": own.index.max(), "shown": SHOWN}
    row |= {"count": len(single), "reach": int((single["within"] >= SHARE).sum())}
    if len(fixed):
        work = (own["evaluations"] + own["vjps"]) / (fixed["evaluations"] + fixed["vjps"])
        row |= {"ratio_low": work.min(), "ratio_high": work.max()}
    return pd.DataFrame([row])


def adaptive_summary(part: pd.DataFrame) -> dict[str, Any]:
    """Return the share within the tolerance, the 95th percentile of the error, and the mean cost."""
    error = np.quantile(part["error"].fillna(np.inf), SHARE, method="higher")
    cost = {"evaluations": part["evaluations"].mean(), "vjps": part["vjps"].mean()}
    return {"within": part["within"].mean(), "error_95": error, "status": "ok"} | cost


def cheapest(part: pd.DataFrame) -> dict[str, Any]:
    """Return the cheapest fixed solve that is within the tolerance often enough, or a status that none is."""
    weighted = part.assign(hits=part["within"] * part["samples"], work=part["evaluations"] + part["vjps"])
    solves = weighted.groupby(["solver", "steps"], as_index=False).agg(
        hits=("hits", "sum"), samples=("samples", "sum"), work=("work", "mean"), evaluations=("evaluations", "mean")
    )
    good = solves[solves["hits"] >= SHARE * solves["samples"]].sort_values(["work", "solver"])
    if not len(good):
        return {
            "status": f"no solve of at most {int(solves['steps'].max())} steps is within the tolerance often enough"
        }
    best = good.iloc[0]
    row = {"solver": best["solver"], "steps": best["steps"], "within": best["hits"] / best["samples"], "status": "ok"}
    return row | {"evaluations": best["evaluations"], "vjps": best["work"] - best["evaluations"]}
