"""Adaptive lookahead against its tolerance, and its cost beside fixed numbers of steps, on problems it was not set on.

The rule's constants were set on other problems (see ``analysis.gradients._adaptive``); those here, from easy to hard,
played no part. The fixed numbers of steps have every advantage: the same solver and time as the rule and other ones,
and the best of them all is chosen with hindsight.
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

SUITE = "theory"
TIMES = tuple(round(0.1 * k, 1) for k in range(1, 10))
TOLERANCES = (0.3, 0.1, 0.03, 0.01)
DRAWS = {"vp_linear": 3, "ve": 4, "polynomial": 5}
"""The seed of each family's problem along each path; the rule was set on others, and 0 to 2 judged the one before."""
STEPS = tuple(n for n in STEP_COUNTS if n <= 64)
SHARE = 0.95  # of the states have to be within the tolerance
SHOWN = 0.1  # the tolerance at which choices are shown
BANDS = {0: "0 (greedy)", 3: "2–3", 5: "4–5", 8: "6–8", 12: "9–12", 24: "14–24", np.inf: "> 24"}
TIME, COSINE = "fixed, in t", "fixed, in cosine time"


def cells(options: Options) -> list[Cell]:
    """Return one cell per family and path, each of a problem of its own."""
    pairs = [(f"{name}_{seed}", path) for name in FAMILIES for path, seed in DRAWS.items()]
    pairs = [("clusters_3", "vp_linear")] if options.quick else pairs
    own: dict[str, Any] = {"measure": f"{__name__}:measure", "factory": "toy_models.problems.families:subject"}
    own["extra"] = (("steps", STEPS[:7] if options.quick else STEPS), ("tolerances", TOLERANCES))
    return [error_cell(options, problem, path, TIMES, 4, (), **own) for problem, path in pairs]


def measure(cell: Cell) -> pd.DataFrame:
    """Measure adaptive at every state and tolerance, and fixed step counts at every tolerance.

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
        for part in (adaptive_rows(batch, x, extra["tolerances"]), fixed_rows(batch, x, extra))
        for row in part
    ]
    return pd.DataFrame(rows)


def adaptive_rows(batch: StateBatch, x: Tensor, tolerances: Sequence[float]) -> Iterator[dict[str, Any]]:
    """Yield a row per tolerance and state: the true error, its estimate, and the number of steps."""
    for tolerance in tolerances:
        adaptive = choices(batch.subject.flow, batch.loss, x, batch.t, tolerance=tolerance)
        error = relative_error(adaptive.gradient.double().cpu(), batch.reference.gradient)
        columns = (batch.t, error, adaptive.error.cpu(), adaptive.steps.cpu())
        for t, e, estimate, steps in zip(*(c.tolist() for c in columns), strict=True):
            row = {"estimator": "adaptive", "tolerance": tolerance, "t": t, "error": e, "estimate": estimate}
            yield row | {"steps": steps, "within": float(e <= tolerance), "samples": 1} | spent(adaptive.cost)


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

    There is one row per tolerance and kind, for each problem and path and for all of them pooled ("all").

    Returns
    -------
    dict
        The tables "summary", "choices", "families" and "facts".
    """
    rows = []
    groups = [*table.groupby(["problem", "path"], sort=False), (("all", "all"), table)]
    for (problem, path), group in groups:
        for (tolerance, kind), part in group.groupby(["tolerance", "estimator"], sort=False):
            named = {"problem": problem, "path": path, "tolerance": tolerance, "estimator": kind}
            rows.append(named | (adaptive_summary(part) if kind == "adaptive" else cheapest(part)))
    summary, own = pd.DataFrame(rows), only(table, estimator="adaptive")
    return {"summary": summary, "choices": chosen(own), "families": families(own), "facts": facts(summary)}


def chosen(own: pd.DataFrame) -> pd.DataFrame:
    """Return the share of states by time and band of step counts, at the tolerance ``SHOWN``."""
    rows = only(own, tolerance=SHOWN)
    bands = pd.cut(rows["steps"], [-1, *BANDS], labels=list(BANDS.values()))
    share = pd.crosstab(bands, rows["t"], normalize="columns").stack().rename("share")  # bands in their order
    share = share.rename_axis(["band", "t"]).reset_index().astype({"band": str})
    return share[share["share"] > 0].reset_index(drop=True)


def families(own: pd.DataFrame) -> pd.DataFrame:
    """Return the share within the tolerance and the 95th percentile of the error by family, as in "family_seed"."""
    family = own["problem"].str.rsplit("_", n=1).str[0]
    groups = own.groupby([family, "tolerance"], sort=False)
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
