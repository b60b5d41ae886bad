"""Batches of measurements for guided samplers: Y images measured once each, and n samples to draw for each.

States are flat batches of Y * n, measurement after measurement; sets of samples are (Y, n, d). If the posteriors of the
measurements are known exactly, samples are compared with exact ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from analysis import cost, sample_distances
from analysis.flow import Flow
from analysis.guidance.likelihood import Score
from analysis.guidance.registry import Sample
from analysis.guidance.tuning import Method, SampleScore, choose
from analysis.losses import Loss
from analysis.operators import InverseProblem
from analysis.paths import AffinePath

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the central credible intervals whose coverage is measured


class Posteriors(Protocol):
    """The exact posteriors of Y measurements: their means (Y, d), samples, densities and likelihood scores."""

    @property
    def mean(self) -> Tensor:
        """The exact posterior means (Y, d)."""

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n samples (Y, n, d) of every posterior, from an explicit CPU generator."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density (Y, n), in nats, of samples x (Y, n, d)."""

    def score(self, path: AffinePath, n: int) -> Score:
        """Return the exact score function grad_x log p(y | x_t) along a path, for n samples per measurement."""


@dataclass(frozen=True, eq=False)
class ExactPosteriors:
    """Exact posteriors of Y measurements, with samples to compare samplers with.

    Attributes
    ----------
    law : means, densities and scores
    samples : (Y, N, d), N samples of each
    independent : (Y, n, d), as many other samples as a sampler draws: what it would draw if it were exact
    """

    law: Posteriors
    samples: Tensor
    independent: Tensor


@dataclass(frozen=True, eq=False)
class MeasuredBatch:
    """Y measurements, the initial noise of n samples for each, and their exact posteriors where known.

    Attributes
    ----------
    problem : how images are measured
    clean, measurements : (Y, d) and (Y, m)
    x0 : (Y * n, d), noise from which samplers start, measurement after measurement
    index : (Y,), where the images stand among those that they were taken from, or None
    known : the exact posteriors, or None
    seed : of samplers that draw noise of their own
    """

    problem: InverseProblem
    clean: Tensor
    measurements: Tensor
    x0: Tensor
    index: Tensor | None = None
    known: ExactPosteriors | None = None
    seed: int = 0

    @property
    def members(self) -> int:
        """n, the number of samples for each measurement."""
        return len(self.x0) // max(1, len(self.clean))

    @property
    def exact(self) -> ExactPosteriors:
        """The exact posteriors.

        Raises
        ------
        ValueError
            Where they are not known.
        """
        if self.known is None:
            raise ValueError("the exact posteriors of these measurements are not known")
        return self.known

    def part(self, rows: slice) -> MeasuredBatch:
        """Return some of the measurements, without their exact posteriors."""
        noise = self.x0.unflatten(0, (-1, self.members))[rows].flatten(0, 1)
        index = None if self.index is None else self.index[rows]
        images = {"clean": self.clean[rows], "measurements": self.measurements[rows], "x0": noise, "index": index}
        return replace(self, **images, known=None)

    def start_on(self, device: str, dtype: torch.dtype) -> MeasuredBatch:
        """Return the batch with its noise on the device and in the dtype of the guided flow."""
        return replace(self, x0=self.x0.to(device, dtype))

    def sets(self, x: Tensor) -> Tensor:
        """Return flat samples (Y * n, d) as sets (Y, n, d), in float64 and on the CPU."""
        return x.double().cpu().unflatten(0, (-1, self.members))

    def finished(self, sample: Sample) -> Tensor:
        """Return samples as sets (Y, n, d), as ``sets`` does, with NaN in place of those that diverged."""
        return self.sets(torch.where(sample.failed[:, None], torch.nan, sample.x))

    def loss(self, n: int | None = None) -> Loss:
        """Return -log p(y | x), up to a constant, for flat batches of n samples per measurement."""
        return self.problem.loss(self.measurements.repeat_interleave(n or self.members, 0))

    def score(self, path: AffinePath, n: int | None = None) -> Score:
        """Return the exact score function grad_x log p(y | x_t), for flat batches of n samples per measurement."""
        return self.exact.law.score(path, n or self.members)

    def energy_distance(self, sample: Sample) -> Tensor:
        """Return the mean over measurements of the energy distance to the exact posterior, ()."""
        return sample_distances.energy_distance(self.sets(sample.x), self.exact.samples).mean()

    def misfit(self, x: Tensor) -> Tensor:
        """Return chi^2/m (Y,) of sets x (Y, n, d): the mean of |A(x) - y|^2 / (m noise^2)."""
        residuals = self.problem.operator(x.flatten(0, 1)).unflatten(0, x.shape[:2]) - self.measurements[:, None]
        return sample_distances.misfit(residuals, self.problem.noise)

    def metrics(self, x: Tensor) -> dict[str, Tensor]:
        """Compare sets of samples x (Y, n, d) with the exact posteriors; NaN where a set holds one that diverged.

        Means are relative, densities in nats less those of the exact samples, misfits chi^2/m. "coverage_l" is the
        share of exact samples inside the central intervals of level l.

        Returns
        -------
        dict
            From a metric to its values (Y,).
        """
        law, exact = self.exact.law, self.exact.samples
        shares, usable = sample_distances.coverage(x, exact, LEVELS), sample_distances.finite_sets(x)
        density = law.log_prob(torch.where(usable[:, None, None], x, exact[:, :1])).mean(1)
        return {
            "sliced_wasserstein": sample_distances.sliced_wasserstein(x, exact),
            "energy_distance": sample_distances.energy_distance(x, exact),
            "mean_error": sample_distances.mean_error(x, law.mean),
            "log_density": torch.where(usable, density - law.log_prob(exact).mean(1), torch.nan),
            "misfit": self.misfit(x),
        } | {f"coverage_{level:g}": shares[:, i] for i, level in enumerate(LEVELS)}


@dataclass(frozen=True)
class TunedRun:
    """Samples of a method, and the options chosen for it on other measurements; empty where nothing is tuned."""

    sample: Sample
    chosen: dict[str, Any]


def chosen_options(
    method: Method, flow: Flow, batch: MeasuredBatch, score: SampleScore, **options: Any
) -> dict[str, Any]:
    """Return a method's best candidate on a batch by ``score``, as in ``choose``; empty without candidates."""
    space, loss = method.space(batch.problem.noise), batch.loss()

    def run(**candidate: Any) -> Sample:
        return method.run(flow, loss, batch.x0, **options, **candidate)

    return choose(run, space, score=score).options if space else {}


def tuned_run(
    method: Method,
    flow: Flow,
    tuning: MeasuredBatch,
    reported: MeasuredBatch,
    *,
    track_memory: bool = False,
    trial_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> TunedRun:
    """Choose a method's hyper-parameter by the energy distance on one batch, and run the method on another.

    ``options`` and ``track_memory`` (of peak bytes) apply to the reported run alone, ``trial_options`` to the others.

    Returns
    -------
    TunedRun
        The samples and the chosen options.

    Raises
    ------
    ValueError
        As ``choose`` and the sampler do.
    """
    chosen = chosen_options(method, flow, tuning, tuning.energy_distance, **trial_options or {})
    with cost.track_memory() if track_memory else contextlib.nullcontext():
        return TunedRun(method.run(flow, reported.loss(), reported.x0, **options, **chosen), chosen)
