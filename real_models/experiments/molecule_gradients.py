"""The error of every estimator on the learned flow of molecules, over times and steps, and its symmetries.

States lie on the flow's own trajectories from noise, with 18 atoms and one of six properties each; the truth is
``analysis.converged``, in float64 as the estimators are. Symmetries compare the gradient at a turned and mirrored, or
renumbered, state with the turned or renumbered gradient, in float32 and float64. At t = 0, where the truth of a learned
flow is not asked for, the norms of the estimators' endpoints show whether their few steps stay where the network was
trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd
import torch

from analysis import errors, solvers
from analysis.experiment import Cell, StateBatch, estimate, rows_of
from analysis.guidance.dial import ladder
from analysis.norms import norms
from analysis.paths import CondOT
from analysis.settings import DTYPES, Options, Variant
from analysis.tables import errors_only, only
from real_models.experiments.real_flow import PRACTICAL, _fit, _floor, sample_states
from real_models.molecules.flow import flow, noise
from real_models.molecules.targets import ATOMS

SUITE = "molecules"
ZETAS = (9.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4)
QUICK_ZETAS = (1.0, 0.25)
SOLVED = 4.0  # zeta of the states with more steps, and of the symmetries
DIAL = ladder(8, "midpoint")
STEPS, SOLVERS = (1, 2, 4, 8, 16), ("euler", "midpoint")
SYMMETRIES = ("turned", "renumbered")
FAR = 30.0  # times the norm of noise; molecules have up to three times that norm


def cells(options: Options) -> list[Cell]:
    """Return the one cell: all estimators share its truth, the expensive part."""
    quick = options.quick
    zetas = torch.tensor(QUICK_ZETAS if quick else ZETAS, dtype=torch.float64)
    names = ("greedy", "midpoint") if quick else tuple(DIAL)
    dtype = "float32" if quick else "float64"
    cell = Cell(
        measure=f"{__name__}:measure",
        factory="real_models.molecules.subject:subject",
        problem="qm9",
        path="condot",
        times=tuple(CondOT().time_from_zeta(zetas).tolist()),
        samples=1 if quick else 6,
        variants=tuple(Variant.of(name) for name in names),
        seed=options.seed,
        dtype=dtype,
        device=options.device,
        extra=(
            ("truth_dtype", dtype),
            ("truth_steps", 2 if quick else 80),
            ("steps", STEPS[:2] if quick else STEPS),
            ("solved", QUICK_ZETAS.index(1.0) if quick else ZETAS.index(SOLVED)),
        ),
    )
    return [cell]


def measure(cell: Cell) -> pd.DataFrame:
    """Return a row per estimator, time and metric; "family" says what they show: the dial, steps or symmetries."""
    names, rows = [variant.estimator for variant in cell.variants], []
    for i, (at, batch) in enumerate(sample_states(cell)):
        bound = {"reference_bound": float(batch.reference.error_bound.max())}
        for name in names:
            rows += [one | {"estimator": name, "family": "dial"} | bound for one in rows_of(at, batch, DIAL[name])]
        if i == cell.extra_dict["solved"]:
            rows += [one | {"family": "steps"} | bound for one in _steps(at, batch, cell.extra_dict["steps"])]
            rows += list(_symmetries(at, batch))
    return pd.DataFrame([*rows, *_endpoints(cell, names)])


def _steps(at: Cell, batch: StateBatch, counts: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    for solver in SOLVERS:
        for n in counts:
            yield from rows_of(at, batch, Variant.of("end_to_end", solver=solver, steps=n))


def _symmetries(at: Cell, batch: StateBatch) -> Iterator[dict[str, Any]]:
    """Yield how much a gradient of four midpoint steps differs from the moved one, by the flow's dtype."""
    generator = at.generator()
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
    order, variant = (
        torch.randperm(batch.x.shape[1], generator=generator),
        Variant.of("end_to_end", solver="midpoint", steps=4),
    )
    moves = {
        "turned": lambda x: torch.cat([x[..., :3] @ turn.to(x), x[..., 3:]], -1),
        "renumbered": lambda x: x[:, order],
    }
    for dtype in dict.fromkeys(("float32", at.dtype)):
        cell = replace(at, dtype=dtype)
        own = replace(batch, subject=replace(batch.subject, flow=flow(batch.x.shape[1], DTYPES[dtype], at.device)))
        plain = estimate(cell, own, variant).gradient.double().cpu()
        for name, move in moves.items():
            moved = estimate(cell, replace(own, x=move(own.x)), variant).gradient.double().cpu()
            row = batch.columns | {"dtype": dtype, "estimator": "midpoint_4", "family": "symmetries", "t": at.times[0]}
            yield row | {"status": "ok", "metric": name} | errors.summary(errors.relative_error(moved, move(plain)))


def _endpoints(cell: Cell, names: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the norms of the estimators' endpoints at t = 0 over the noise's."""
    learned = flow(ATOMS, DTYPES[cell.dtype], cell.device)
    x = noise(cell.samples, ATOMS, cell.generator(), DTYPES[cell.dtype]).to(cell.device)
    for name in names:
        solved = {"greedy": ("euler", 1)} | {key: _solver(key) for key in DIAL if key != "greedy"}
        solver, steps = solved[name]
        grid = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        end = solvers.solve(learned, x, solvers.plan(solver, learned.path, grid))
        row = cell.columns() | {"estimator": name, "family": "endpoints", "t": 0.0, "samples": cell.samples}
        ratio = (norms(end) / norms(x)).cpu()
        yield row | {"status": "ok", "metric": "endpoint_norm"} | errors.summary(ratio) | {"high": float(ratio.max())}


def _solver(name: str) -> tuple[str, int]:
    options = dict(DIAL[name].options)
    return options["solver"], options["steps"]


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Fit greedy's slope at the least and at practical zetas, and state facts."""
    greedy = only(errors_only(table), family="dial", estimator="greedy")
    practical = greedy[greedy["zeta"].between(*PRACTICAL)]
    parts = {"greedy": greedy, "greedy, practical": practical}
    fits = pd.DataFrame(
        [_fit(name, "zeta", 2.0, rows["zeta"], rows["value"], _floor(rows)) for name, rows in parts.items()]
    )
    return {"fits": fits, "facts": facts(table, fits)}


def facts(table: pd.DataFrame, fits: pd.DataFrame) -> pd.DataFrame:
    """Give errors at the earliest time, slopes, symmetries, and endpoints that are far out at t = 0."""
    dial = only(errors_only(table), family="dial")
    first = only(dial, t=dial["t"].min()).set_index("estimator")["value"]
    row: dict[str, Any] = {"t": dial["t"].min(), "greedy": first["greedy"], "molecules": int(dial["samples"].max())}
    row |= {name: first[name] for name in DIAL if name in first}
    angles = only(table, family="dial", metric="one_minus_cosine", t=dial["t"].min()).set_index("estimator")["value"]
    row |= {f"{name}_cosine": 1 - angles[name] for name in ("greedy", "end_to_end") if name in angles}
    row |= {"best": first.idxmin(), "late_t": dial["t"].max()}
    row |= {"greedy_late": only(dial, t=dial["t"].max(), estimator="greedy")["value"].iloc[0]}
    for fit in only(fits, status="ok").to_dict("records"):
        name = "slope" if fit["name"] == "greedy" else "practical"
        row |= {name: fit["slope"], f"{name}_low": fit["low"], f"{name}_high": fit["high"]}
    for symmetry in SYMMETRIES:
        for dtype, rows in only(table, metric=symmetry).groupby("dtype"):
            row[f"{symmetry}_{dtype}"] = rows["high"].max()
    far = only(table, metric="endpoint_norm")
    wild = far[far["high"] > FAR]
    row |= {"wild": ", ".join(wild["estimator"]), "farthest": wild["high"].max()} if len(wild) else {}
    return pd.DataFrame([row])
