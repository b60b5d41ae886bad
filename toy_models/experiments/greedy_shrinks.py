"""The factor by which greedy shrinks derivatives along each direction, against the law of ``toy_models.bounds``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from analysis.experiment import Cell
from analysis.settings import Options, resolve
from toy_models.bounds.shrinkage import direction_rows, shrinkage, with_law
from toy_models.cells import error_cell
from toy_models.problems import zoo

SUITE = "theory"
GAUSSIAN = "gaussian"
HOLDS = 1e-6  # a deviation below it is the law's on every path
FOLLOWS = 0.05  # a median relative deviation up to this follows the law
SPEC: dict[str, dict[str, Any]] = {
    "quick": {
        "paths": ("condot", "vp_linear"),
        "mixtures": ("product256",),
        "times": 4,
        "samples": 4,
        "directions": 4,
    },
    "full": {
        "paths": tuple(zoo.ZOO_PATHS),
        "mixtures": ("product256", "ring8", "digits"),
        "times": 6,
        "samples": 6,
        "directions": 8,
    },
}


def cells(options: Options) -> list[Cell]:
    """Return one cell per problem and path: one Gaussian along every path, and mixtures along CondOT."""
    spec = options.of(SPEC)
    zeta = torch.from_numpy(np.geomspace(0.03, 4, spec["times"]))
    pairs = [(GAUSSIAN, path) for path in spec["paths"]] + [(problem, "condot") for problem in spec["mixtures"]]
    times = {path: zoo.ZOO_PATHS[path]().time_from_zeta(zeta).tolist() for _, path in pairs}
    own: dict[str, Any] = {"measure": f"{__name__}:measure", "extra": (("directions", spec["directions"]),)}
    return [error_cell(options, problem, path, times[path], spec["samples"], (), **own) for problem, path in pairs]


def measure(cell: Cell) -> pd.DataFrame:
    """Return a row per state and direction: greedy's and the ideal derivative along it, and the posterior variance."""
    subject = resolve(cell.factory)(cell.problem, cell.path, cell.dtype, cell.device)
    times = torch.tensor(cell.times, dtype=torch.float64)
    x, t = subject.states(times, cell.samples, cell.generator()), times.repeat_interleave(cell.samples)
    return pd.DataFrame(cell.columns() | direction_rows(subject, x, t, cell.extra_dict["directions"]))


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the ratios greedy/ideal beside the law: directions, mixtures, and quartiles of their deviations."""
    table = with_law(table)
    mixtures = table.loc[table["variance"].isna(), ["problem", "zeta", "law", "ratio", "deviation"]]
    spread = mixtures.groupby(["problem", "zeta"], sort=False)["deviation"]
    quartiles = {name: spread.quantile(level) for name, level in (("low", 0.25), ("value", 0.5), ("high", 0.75))}
    deviations = pd.DataFrame(quartiles).clip(lower=1e-16).reset_index()
    named = {"directions": shrinkage(table), "mixtures": mixtures, "deviations": deviations}
    return named | {"facts": facts(**named)}


def facts(directions: pd.DataFrame, mixtures: pd.DataFrame, deviations: pd.DataFrame) -> pd.DataFrame:
    """Give the Gaussian law's error on the Gaussian, and the size and frequency of mixtures' deviations from it."""
    gaussian = directions[directions["variance"].notna()]
    row: dict[str, Any] = {"gaussian": gaussian["deviation"].max(), "paths": gaussian["path"].nunique()}
    row |= {"law": bool(row["gaussian"] <= HOLDS)} if row["paths"] else {}
    row |= {"margin": FOLLOWS, "total": int(directions["samples"].sum())}
    if lost := int(directions["failed"].sum()):
        row["failed"] = lost
    if len(mixtures):
        follows = deviations[deviations["value"] <= FOLLOWS].groupby("problem")["zeta"].max()
        above = (mixtures["ratio"] > 1).groupby(mixtures["problem"]).mean()
        row |= {"follows_low": follows.min(), "follows_high": follows.max()}
        row |= {"above_low": above.min(), "above_high": above.max(), "exceeds": bool(above.max() > 0)}
    return pd.DataFrame([row])
