"""Tables of solvers, their variables and grids, of paths, and of the ways to save memory."""

from __future__ import annotations

import torch

from analysis import gradients, losses, paths, solvers
from analysis.cost import track_memory
from analysis.solvers import coordinates, grids
from analysis.solvers.checkpointing import STRATEGIES
from analysis.solvers.coordinates import COORDINATES
from analysis.solvers.tableaux import TABLEAUX
from docs.generator.markdown import code, linked, number, prose, sentence, table
from figures.style import names
from toy_models.problems import zoo

VARIABLES = {"t": "t", "zeta": "ζ", "gamma": "γ", "logsnr": "log SNR"}
MEMORY_STEPS = 32


def solver_tableaux() -> str:
    """Return the Runge-Kutta methods, with the key of each in each variable."""
    variables = [f"in {VARIABLES[c]}" for c in COORDINATES]
    head = ("method", "order", "evaluations per step", *variables)
    rows = []
    for key, tableau in TABLEAUX.items():
        keys = [key if c == "t" else f"{key}_{c}" for c in COORDINATES]
        shown = f"**{names.of('solvers', key)}**", tableau.order, len(tableau.b)
        rows.append((*shown, *(code(k) for k in keys if k in solvers.SOLVERS)))
    return table(head, rows)


def solvers_of_their_own() -> str:
    """Return the solvers that are no Runge-Kutta method."""
    ends = tuple(f"_{c}" for c in COORDINATES if c != "t")
    keys = [key for key in solvers.SOLVERS if key not in TABLEAUX and not key.endswith(ends)]
    head = ("method", "key", "order", "evaluations per step", "what it is", "source")
    rows = []
    for key in keys:
        solver, name = solvers.SOLVERS[key], names.SOLVERS[key]
        shown = f"**{name.label}**", code(key), solver.order, solver.evaluations
        rows.append((*shown, sentence(name.meaning), linked(name.source)))
    return table(head, rows)


def path_table() -> str:
    """Return the named paths, their schedules and the values that matter at the ends of time."""
    head = ("path", "key", "class", "schedules", "ζ at t = 0", "ζ at t = 1", "σ′ at t = 1", "source")
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    rows = []
    for key, make in paths.PATHS.items():
        path, name = make(), names.PATHS[key]
        zeta, derivative = path.zeta(ends).tolist(), float(path.d_sigma(ends)[1])
        numbers = [number(value) for value in (*zeta, derivative)]
        rows.append((f"**{name.label}**", code(key), code(path), name.meaning, *numbers, linked(name.source)))
    return table(head, rows)


def memory() -> str:
    """Return how the memory of a solve's gradient can be saved, and the work and bytes of each way."""
    head = ("`memory=`", "evaluations", "products", "peak bytes")
    rows = []
    for strategy in STRATEGIES:
        e, p, peak = _stored(strategy)
        rows.append((code(strategy), f"{e:.4g}", f"{p:.4g}", f"{peak:,}"))
    return table(head, rows)


def _stored(strategy: str) -> tuple[float, float, int]:
    """Return evaluations, products and peak bytes of one end-to-end gradient."""
    flow, loss = zoo.build("ring8", paths.CondOT()), losses.HalfSquaredDistance(torch.ones(2))
    x = torch.randn(64, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with track_memory():
        cost = gradients.end_to_end(flow, loss, x, 0.2, steps=MEMORY_STEPS, solver="midpoint", memory=strategy).cost
    return cost.evaluations, cost.vjps, cost.bytes or 0


def variables() -> str:
    """Return what the variables of steps are."""
    return prose(coordinates).split("\n\n", 1)[1]


def grid_names() -> str:
    """Return the names of grids, and what they are."""
    return prose(grids.time_grid).split("\n\n", 1)[1]
