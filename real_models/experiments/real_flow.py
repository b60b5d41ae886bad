"""The learned flow of digits measured as the analytic ones are: greedy over zeta, end-to-end over steps, lookahead.

States lie on the flow's own trajectories, which start from noisy held-out digits at the earliest time; the truth there
is ``analysis.converged`` in float64 (column ``truth_dtype``), whose own convergence is the column ``reference_bound``.
Greedy's error becomes small, so greedy runs in float64 too; gradients through many steps run in the network's own
float32. The truth of the quick run has few steps and is in float32: it only shows that everything runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import pandas as pd
import torch

from analysis import errors
from analysis.bounds.leading_term import leading_term
from analysis.converged import converged_gradients
from analysis.experiment import Cell, StateBatch, estimate, rows_of
from analysis.orders import fit_order
from analysis.paths import CondOT
from analysis.settings import DTYPES, Options, Variant, resolve
from analysis.solvers import SOLVERS
from analysis.tables import errors_only, only

SUITE = "images"
FACTORY, PROBLEM = "real_models.images:subject", "mnist_unet"
SOLVED = 4  # zeta of the states whose gradients are also taken through many steps: t = 0.2
ZETAS = (9, SOLVED, 2, 1, 0.5, 0.25, 0.12, 0.06, 0.03, 0.015, 0.008, 0.004, 0.002, 0.001, 5e-4, 2.5e-4, 1.2e-4, 6e-5)
QUICK_ZETAS = (0.3, 0.1)
POINTS = 4  # of a fit
# A fit uses errors above this multiple of the reference's bound, which overstates about fifteen times, and of eps.
CLEAR, ROUND_OFFS = 2.0, 64.0
PRACTICAL = (0.01, 0.3)  # zetas at which a guided sampler ends its way
GREEDY = Variant.of("greedy")
NAMES = {"greedy, practical": "practical", "leading term": "leading_term"}  # of fits, as columns


def cells(options: Options) -> list[Cell]:
    """Return the one cell: all variants share its truth, the expensive part."""
    zetas = torch.tensor(QUICK_ZETAS if options.quick else ZETAS, dtype=torch.float64)
    solved = QUICK_ZETAS.index(0.3) if options.quick else ZETAS.index(SOLVED)
    dtype = "float32" if options.quick else "float64"
    cell = Cell(
        measure=f"{__name__}:measure",
        factory=FACTORY,
        problem=PROBLEM,
        path="condot",
        times=tuple(CondOT().time_from_zeta(zetas).tolist()),
        samples=1 if options.quick else 12,
        variants=tuple(_solves(options.quick)),
        seed=options.seed,
        dtype=dtype,
        device=options.device,
        extra=(("truth_dtype", dtype), ("truth_steps", 2 if options.quick else 48), ("solved", solved)),
    )
    return [cell]


def _solves(quick: bool) -> list[Variant]:
    """Return end-to-end gradients over steps and solvers, and lookahead over steps and horizons."""
    most = {"euler": 4, "midpoint": 2, "rk4": 1} if quick else {"euler": 32, "midpoint": 16, "rk4": 8}
    memory = {"memory": "checkpoint"}  # the graphs of one step fit into memory, those of all do not
    ends = [(solver, 2**k) for solver, last in most.items() for k in range(last.bit_length())]
    steps, fractions = ((1, 2), (0.5,)) if quick else ((1, 2, 4, 8), (0.25, 0.5, 0.75, 0.9))
    grid = product(("euler",) if quick else ("euler", "midpoint"), steps, fractions)
    ahead = [Variant.of("lookahead", solver=s, steps=n, horizon_fraction=f, **memory) for s, n, f in grid]
    return [*(Variant.of("end_to_end", solver=solver, steps=n, **memory) for solver, n in ends), *ahead]


def sample_states(cell: Cell) -> list[tuple[Cell, StateBatch]]:
    """Sample states at the first time, follow the flow to the others with the truth, and split the cell by time."""
    subject = resolve(cell.factory)(cell.problem, cell.path, cell.dtype, cell.device)
    extra, generator = cell.extra_dict, cell.generator()
    twin = extra["truth_dtype"] == "float64"
    truth, device = (subject.reference_flow, "cpu") if twin else (subject.flow, cell.device)
    x = subject.states(torch.tensor(cell.times[:1], dtype=torch.float64), cell.samples, generator)
    loss = subject.loss(1, cell.samples, generator)
    x = x.to(device, DTYPES[extra["truth_dtype"]])
    solved = converged_gradients(truth, loss, x, cell.times, steps=extra["truth_steps"])
    columns = cell.columns() | {"truth": "converged", "truth_dtype": extra["truth_dtype"], "truth_steps": solved.steps}
    parts = []
    for t, state, part in zip(cell.times, solved.states, solved.references, strict=True):
        gradient, bound = part.gradient.double().cpu(), part.error_bound.double().cpu()
        reference = replace(part, gradient=gradient, error_bound=bound)
        at = torch.full((cell.samples,), t, dtype=torch.float64)
        parts.append((replace(cell, times=(t,)), StateBatch(subject, state, at, loss, reference, columns)))
    return parts


def measure(cell: Cell) -> pd.DataFrame:
    """Return one row per variant, time and metric, with the bound of the reference's error at that time."""
    tables = []
    for i, (at, batch) in enumerate(sample_states(cell)):
        rows = [*rows_of(at, batch, GREEDY), *_leading(at, batch)]
        if i == cell.extra_dict["solved"]:
            single, part = _single(at, batch)
            rows += [row for variant in cell.variants for row in rows_of(single, part, variant)]
        tables.append(pd.DataFrame(rows).assign(reference_bound=float(batch.reference.error_bound.max())))
    return pd.concat(tables, ignore_index=True)


def _single(cell: Cell, batch: StateBatch) -> tuple[Cell, StateBatch]:
    """Return the cell and its batch of states for float32."""
    cell = replace(cell, dtype="float32")
    flow = resolve(cell.factory)(cell.problem, cell.path, cell.dtype, cell.device).flow
    return cell, replace(
        batch, subject=replace(batch.subject, flow=flow), columns=batch.columns | {"dtype": cell.dtype}
    )


def _leading(cell: Cell, batch: StateBatch) -> Iterator[dict[str, Any]]:
    """Yield the size of the leading term over the truth's, and its relative distance from greedy's error."""
    gradient, truth = estimate(cell, batch, GREEDY).gradient.double().cpu(), batch.reference.gradient
    x, t = batch.x.to(cell.device, DTYPES[cell.dtype]), cell.times[0]
    term = leading_term(batch.subject.flow, batch.loss, x, t).double().cpu()
    row = batch.columns | {
        "estimator": "greedy",
        "t": t,
        "zeta": float(batch.subject.reference_flow.path.zeta(t)),
        "status": "ok",
    }
    yield row | {"metric": "leading_term"} | errors.summary(errors.relative(term, truth))
    yield row | {"metric": "leading_term_error"} | errors.summary(errors.relative_error(term, truth - gradient))


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Fit greedy's slope at all and at practical zetas, the leading term's remainder, and the solvers' orders."""
    errors = errors_only(table)
    greedy, ends = (errors[errors["estimator"] == name] for name in ("greedy", "end_to_end"))
    left = table[table["metric"] == "leading_term_error"].set_index("t")
    greedy = greedy[greedy["solver"].isna()].set_index("t")
    fits = [_fit("greedy", "zeta", 2.0, greedy["zeta"], greedy["value"], _floor(greedy))]
    practical = greedy[greedy["zeta"].between(*PRACTICAL)]
    fits.append(_fit("greedy, practical", "zeta", 2.0, practical["zeta"], practical["value"], _floor(practical)))
    floor = _floor(greedy) / greedy["value"]  # the deviation is relative to greedy's error, which is small itself
    fits.append(_fit("leading term", "zeta", 1.0, left["zeta"], left["value"], floor[left.index]))
    for solver, rows in ends.groupby("solver"):
        order = float(SOLVERS[str(solver)].order)
        fits.append(_fit(str(solver), "1/n", order, 1 / rows["steps"].astype(float), rows["value"], _floor(rows)))
    tables = {"fits": pd.DataFrame(fits), "ahead": ahead(table)}
    return tables | {"facts": facts(table, **tables)}


def ahead(table: pd.DataFrame) -> pd.DataFrame:
    """Return errors over steps and horizons, from greedy (0) to the end (1); ``best`` marks the least of each count."""
    errors = errors_only(table)
    inside = only(errors, estimator="lookahead")
    ends = only(errors, estimator="end_to_end", solver=set(inside["solver"])).assign(horizon=1.0, fraction=1.0)
    here = only(errors, estimator="greedy", t=ends["t"].iloc[0])
    here = here.assign(horizon=here["t"], fraction=0.0)
    grid = inside[["solver", "steps"]].drop_duplicates()
    here = grid.merge(here.drop(columns=["solver", "steps"]), how="cross")
    curves = pd.concat([here, inside, ends.merge(grid)], ignore_index=True)
    least = curves.groupby(["solver", "steps"])["value"].idxmin()
    return curves.assign(best=curves.index.isin(least))


def facts(table: pd.DataFrame, fits: pd.DataFrame, ahead: pd.DataFrame) -> pd.DataFrame:
    """Give the fitted slopes, the share that the leading term misses at the least zeta, and the best horizons."""
    done = only(fits, status="ok")
    slopes = dict(zip(done["name"], done["slope"], strict=True)) if len(done) else {}
    row: dict[str, Any] = {NAMES.get(str(name), str(name)): slope for name, slope in slopes.items()}
    left = only(table, metric="leading_term_error").sort_values("zeta").iloc[0]
    best = only(ahead, best=True)
    row |= {"left": left["value"], "left_zeta": left["zeta"], "samples": int(table["samples"].iloc[0])}
    row |= {"counts": len(best), "short": int((best["fraction"] < 1).sum())}
    return pd.DataFrame([row])


def _floor(rows: pd.DataFrame) -> pd.Series:
    """Return the errors below which a fit would see the truth's own error and the network's round-off."""
    eps = torch.finfo(DTYPES[str(rows["dtype"].iloc[0])]).eps
    return CLEAR * rows["reference_bound"] + ROUND_OFFS * eps


def _fit(name: str, variable: str, theory: float, h: pd.Series, value: pd.Series, floor: pd.Series) -> dict[str, Any]:
    """Return a fitted slope beside theory; where the fit fails, the status holds the reason."""
    row = {"name": name, "variable": variable, "theory": theory}
    try:
        fitted = fit_order(h.to_numpy(), value.to_numpy(), floor=floor.to_numpy(), points=POINTS)
    except ValueError as error:
        return row | {"status": str(error)}
    return row | vars(fitted) | {"status": "ok"}
