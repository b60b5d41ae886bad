r"""How much the greedy derivative shrinks along each direction of the posterior, against the law of one Gaussian.

For one Gaussian with variance lambda along an eigen-direction, greedy over ideal is

.. math:: \frac{D\hat x_1}{D\Phi} = \frac{1}{\sqrt{1 + \zeta^2/\lambda}} = \frac{\sqrt{v}}{\zeta},
          \qquad v = \mathrm{Var}[X_1 | X_t] = \Bigl(\frac1\lambda + \frac1{\zeta^2}\Bigr)^{-1},

since :math:`D\hat x_1 = (\alpha/\sigma^2) v` and :math:`D\Phi = \sqrt{\lambda/(\alpha^2\lambda + \sigma^2)}`. The last
form names no lambda: a mixture can be asked whether it obeys it along the eigenvectors of its posterior covariance.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis import reference
from analysis.experiment import Cell
from analysis.flow import Flow
from analysis.gradients import ESTIMATORS
from analysis.losses import Linear
from analysis.settings import Options, resolve
from analysis.subject import Subject
from toy_models.cells import error_cell
from toy_models.mixtures.exact import GaussianFlow
from toy_models.problems import zoo

GAUSSIAN = "gaussian"
FOLLOWS = 0.05  # a median relative deviation up to this follows the law


def cells(options: Options) -> list[Cell]:
    """Return one cell per problem and path: one Gaussian along every path, and mixtures along CondOT."""
    paths = ("condot", "vp_linear") if options.quick else tuple(zoo.ZOO_PATHS)
    mixtures = ("product256",) if options.quick else ("product256", "ring8", "digits")
    zeta = torch.from_numpy(np.geomspace(0.03, 4, 4 if options.quick else 6))
    samples = 4 if options.quick else 6
    pairs = [(GAUSSIAN, path) for path in paths] + [(problem, "condot") for problem in mixtures]
    found = [
        error_cell(options, problem, path, zoo.ZOO_PATHS[path]().time_from_zeta(zeta).tolist(), samples, ())
        for problem, path in pairs
    ]
    extra = (("directions", 4 if options.quick else 8),)
    return [replace(c, measure="toy_models.experiments.greedy_shrinks:measure", extra=extra) for c in found]


def measure(cell: Cell) -> pd.DataFrame:
    """Return one row per state and direction: greedy's derivative along it, the ideal one, the posterior variance.

    The directions are eigenvectors of the posterior covariance, spread over its spectrum; where a problem is one
    Gaussian they are those of the data, with variance ``variance``. A derivative whose reference has no bound is NaN.
    """
    subject = resolve(cell.factory)(cell.problem, cell.path, cell.dtype, cell.device)
    times = torch.tensor(cell.times, dtype=torch.float64)
    x, t = subject.states(times, cell.samples, cell.generator()), times.repeat_interleave(cell.samples)
    chosen = torch.linspace(0, x.shape[1] - 1, min(dict(cell.extra)["directions"], x.shape[1])).round().long()
    posterior, vectors = torch.linalg.eigh(subject.reference_flow.posterior_covariance(x, t))
    rows = vectors[:, :, chosen].mT.flatten(0, 1)  # (states * directions, d)
    x, t = x.repeat_interleave(len(chosen), 0), t.repeat_interleave(len(chosen))
    columns = {
        "t": t,
        "zeta": subject.reference_flow.path.zeta(t),
        "direction": chosen.repeat(len(posterior)),
        "variance": _variances(subject.reference_flow, chosen).repeat(len(posterior)),
        "posterior": posterior[:, chosen].flatten(),
    }
    named = {"problem": cell.problem, "path": cell.path, "seed": cell.seed, "dtype": cell.dtype}
    return pd.DataFrame(named | columns | _derivatives(subject, x, t, rows))


def _derivatives(subject: Subject, x: Tensor, t: Tensor, rows: Tensor) -> dict[str, Any]:
    """Return greedy's and the ideal derivative of the sample along ``rows`` (B, d), in that same direction."""
    loss = Linear(rows)
    truth = reference.ideal_gradient(subject.reference_flow, loss, x, t, max_error=torch.inf)
    ideal = torch.where(truth.error_bound <= reference.MAX_ERROR, (truth.gradient * rows).sum(1), torch.nan)
    greedy = ESTIMATORS["greedy"](subject.flow, loss, x.to(subject.flow.dtype), t).gradient.double().cpu()
    return {
        "greedy": (greedy * rows).sum(1),
        "ideal": ideal,
        "reference_bound": truth.error_bound,
        "truth": truth.tier,
    }


def _variances(flow: Flow, chosen: Tensor) -> Tensor:
    """Return the data's variances along the chosen eigenvectors of one Gaussian; NaN for any other distribution."""
    if isinstance(flow, GaussianFlow):
        return flow.mixture.eigenvalues[0, chosen]
    return torch.full(chosen.shape, torch.nan)


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the ratio greedy/ideal beside the law, for directions and, with quartiles of its deviation, mixtures."""
    ratio = table["greedy"] / table["ideal"]
    law = table["posterior"].clip(lower=0) ** 0.5 / table["zeta"]
    table = table.assign(ratio=ratio, law=law, deviation=(ratio / law - 1).abs(), above_one=ratio > 1)
    groups = table.groupby(["problem", "path", "zeta", "direction"], sort=True)
    low, high = groups["ratio"].quantile(0.25), groups["ratio"].quantile(0.75)
    found = groups.agg(
        variance=("variance", "first"),
        law=("law", "median"),
        value=("ratio", "median"),
        above_one=("above_one", "mean"),
        samples=("ratio", "size"),
        deviation=("deviation", "max"),
        reference_bound=("reference_bound", "max"),
    )
    failed = groups["ratio"].size() - groups["ratio"].count()
    directions = found.assign(low=low, high=high, failed=failed).reset_index()
    mixtures = table.loc[table["variance"].isna(), ["problem", "zeta", "law", "ratio", "deviation"]]
    spread = mixtures.groupby(["problem", "zeta"], sort=False)["deviation"]
    quartiles = {name: spread.quantile(level) for name, level in (("low", 0.25), ("value", 0.5), ("high", 0.75))}
    deviations = pd.DataFrame(quartiles).clip(lower=1e-16).reset_index()
    named = {"directions": directions, "mixtures": mixtures, "deviations": deviations}
    return named | {"facts": facts(**named)}


def facts(directions: pd.DataFrame, mixtures: pd.DataFrame, deviations: pd.DataFrame) -> pd.DataFrame:
    """Say how well the Gaussian law holds on the Gaussian, and how far and how often mixtures leave it."""
    gaussian = directions[directions["variance"].notna()]
    row: dict[str, Any] = {"gaussian": gaussian["deviation"].max(), "paths": gaussian["path"].nunique()}
    row |= {"margin": FOLLOWS, "total": int(directions["samples"].sum())}
    if lost := int(directions["failed"].sum()):
        row["failed"] = lost
    if len(mixtures):
        follows = deviations[deviations["value"] <= FOLLOWS].groupby("problem")["zeta"].max()
        above = (mixtures["ratio"] > 1).groupby(mixtures["problem"]).mean()
        row |= {"follows_low": follows.min(), "follows_high": follows.max()}
        row |= {"above_low": above.min(), "above_high": above.max(), "exceeds": bool(above.max() > 0)}
    return pd.DataFrame([row])
