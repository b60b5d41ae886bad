r"""The factor by which greedy shrinks the derivative along each direction of the posterior, and one Gaussian's law.

For one Gaussian with variance lambda along an eigen-direction, greedy over ideal is

.. math:: \frac{D\hat x_1}{D\Phi} = \frac{1}{\sqrt{1 + \zeta^2/\lambda}} = \frac{\sqrt{v}}{\zeta},
          \qquad v = \mathrm{Var}[X_1 | X_t] = \Bigl(\frac1\lambda + \frac1{\zeta^2}\Bigr)^{-1},

since :math:`D\hat x_1 = (\alpha/\sigma^2) v` and :math:`D\Phi = \sqrt{\lambda/(\alpha^2\lambda + \sigma^2)}`. The last
form does not contain lambda, so it can be compared with a mixture along the eigenvectors of its posterior covariance.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch import Tensor

from analysis import reference
from analysis.flow import Flow
from analysis.gradients import ESTIMATORS
from analysis.losses import Linear
from analysis.subject import Subject
from toy_models.mixtures.exact import GaussianFlow


def direction_rows(subject: Subject, x: Tensor, t: Tensor, directions: int) -> dict[str, Any]:
    """Compute greedy's and the ideal derivative at states x (B, d), t (B,), along some directions each.

    The ``directions`` are eigenvectors of the posterior covariance, spread over its spectrum; for a single Gaussian
    they are those of the data, with variance ``variance``. A derivative whose reference has no bound is NaN.

    Returns
    -------
    dict
        Columns with one row per state and direction.
    """
    flow: Any = subject.reference_flow
    chosen = torch.linspace(0, x.shape[1] - 1, min(directions, x.shape[1])).round().long()
    posterior, vectors = torch.linalg.eigh(flow.posterior_covariance(x, t))
    rows = vectors[:, :, chosen].mT.flatten(0, 1)  # (states * directions, d)
    x, t = x.repeat_interleave(len(chosen), 0), t.repeat_interleave(len(chosen))
    columns = {
        "t": t,
        "zeta": flow.path.zeta(t),
        "direction": chosen.repeat(len(posterior)),
        "variance": _variances(flow, chosen).repeat(len(posterior)),
        "posterior": posterior[:, chosen].flatten(),
    }
    return columns | _derivatives(subject, x, t, rows)


def _derivatives(subject: Subject, x: Tensor, t: Tensor, rows: Tensor) -> dict[str, Any]:
    """Return greedy's and the ideal derivative of the sample along ``rows`` (B, d), in the same direction."""
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
    """Return the data's variances along the chosen eigenvectors of one Gaussian; NaN for other distributions."""
    if isinstance(flow, GaussianFlow):
        return flow.mixture.eigenvalues[0, chosen]
    return torch.full(chosen.shape, torch.nan)


def with_law(table: pd.DataFrame) -> pd.DataFrame:
    """Return rows of ``direction_rows`` with the ratio greedy/ideal, the law's ratio, and the deviation."""
    ratio = table["greedy"] / table["ideal"]
    law = table["posterior"].clip(lower=0) ** 0.5 / table["zeta"]
    return table.assign(ratio=ratio, law=law, deviation=(ratio / law - 1).abs(), above_one=ratio > 1)


def shrinkage(table: pd.DataFrame) -> pd.DataFrame:
    """Return medians and quartiles over states of the rows of ``with_law``, by problem, path, zeta and direction."""
    groups = table.groupby(["problem", "path", "zeta", "direction"], sort=True)
    low, high = groups["ratio"].quantile(0.25), groups["ratio"].quantile(0.75)
    medians = groups.agg(
        variance=("variance", "first"),
        law=("law", "median"),
        value=("ratio", "median"),
        above_one=("above_one", "mean"),
        samples=("ratio", "size"),
        deviation=("deviation", "max"),
        reference_bound=("reference_bound", "max"),
    )
    failed = groups["ratio"].size() - groups["ratio"].count()
    return medians.assign(low=low, high=high, failed=failed).reset_index()
