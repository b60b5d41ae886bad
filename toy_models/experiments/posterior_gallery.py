"""Guided samples of real held-out MNIST images beside the exact posterior of the mixture fitted to others.

Every method's hyper-parameter is chosen among the same number of candidates, by the mean energy distance to the exact
posteriors of measurements of two other held-out images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from analysis import sample_distances
from analysis.experiment import Cell
from analysis.guidance import SAMPLERS, Sample
from analysis.guidance.tuning import choose
from analysis.losses import HalfSquaredResidual
from analysis.operators import InverseProblem, inverse_problem
from analysis.paths import PATHS
from analysis.settings import Options, Variant
from toy_models.experiments.outcome import METHODS, NOISE
from toy_models.mixtures.low_rank import LowRankMixtureFlow
from toy_models.posteriors.low_rank import LowRankLikelihood
from toy_models.problems import mnist

OPERATORS = ("super_resolution_4", "random_inpainting", "compressed_sensing")
SHOWN = ("unguided", "likelihood:greedy", "dps:greedy", "likelihood:midpoint")
HELD_OUT, MEMBERS, EXACT = 2, 2, 32


def cells(options: Options) -> list[Cell]:
    """Return a cell per operator."""
    names = SHOWN[:1] if options.quick else SHOWN
    found = [
        Cell(
            measure="toy_models.experiments.posterior_gallery:measure",
            factory="toy_models.problems.mnist:flow",
            problem=f"mnist, {operator}",
            path="condot",
            times=(),
            samples=MEMBERS,
            settings=tuple(Variant.of(name) for name in names),
            seed=options.seed,
            extra=(("operator", operator),),
        )
        for operator in OPERATORS
    ]
    return found[:1] if options.quick else found


@dataclass(frozen=True)
class Seen:
    """Images (Y, d), their measurements (Y, m), exact samples (Y, EXACT, d) and means (Y, d), and noise to guide."""

    problem: InverseProblem
    images: Tensor
    measurements: Tensor
    exact: Tensor
    means: Tensor
    x0: Tensor

    @classmethod
    def of(cls, flow: LowRankMixtureFlow, problem: InverseProblem, images: Tensor, generator: torch.Generator) -> Seen:
        """Measure images and draw their exact posteriors."""
        likelihood = LowRankLikelihood(flow.mixture, problem.operator, problem.noise_covariance)
        y = problem.measure(images, generator)
        posteriors = [likelihood.posterior(one) for one in y]
        exact = torch.stack([p.sample(EXACT, generator) for p in posteriors])
        x0 = torch.randn(len(images) * MEMBERS, images.shape[1], dtype=torch.float64, generator=generator)
        return cls(problem, images, y, exact, torch.stack([p.mean for p in posteriors]), x0)

    @property
    def loss(self) -> HalfSquaredResidual:
        """The negative log-likelihood of flat batches of ``MEMBERS`` samples per measurement."""
        y = self.measurements.repeat_interleave(MEMBERS, 0)
        return HalfSquaredResidual(self.problem.operator.matrix(), y, noise=self.problem.noise)

    def distances(self, found: Sample) -> Tensor:
        """Return for each sample the mean energy distance to the exact posteriors."""
        sets = found.x.unflatten(0, (-1, MEMBERS))
        return sample_distances.energy_distance(sets, self.exact).mean().expand(len(found.x))


def measure(cell: Cell) -> pd.DataFrame:
    """Return one row per image and pixel; ``misfit`` is chi^2/m of that image."""
    operator, generator = str(dict(cell.extra)["operator"]), cell.generator()
    flow, problem = mnist.flow(PATHS[cell.path]()), inverse_problem(operator, mnist.SIDE, NOISE)
    images = mnist.held_out()[0]
    images = images[torch.randperm(len(images), generator=generator)[: HELD_OUT + 1]]
    tuning, shown = (Seen.of(flow, problem, part, generator) for part in (images[:HELD_OUT], images[HELD_OUT:]))
    seen = torch.linalg.pinv(problem.operator.matrix()) @ shown.measurements[0]
    found = {"image": shown.images[:1], "measurement": seen[None], "mean": shown.means[:1]}
    found |= {"exact": shown.exact[0, :MEMBERS]}
    found |= {setting.estimator: guided(flow, setting.estimator, tuning, shown, cell.seed) for setting in cell.settings}
    return pd.DataFrame([row for name, x in found.items() for row in _rows(cell, operator, shown, name, x)])


def guided(flow: LowRankMixtureFlow, name: str, tuning: Seen, shown: Seen, seed: int) -> Tensor:
    """Return the samples (MEMBERS, d) of a method, tuned on other images; they are frozen where they diverged."""
    method, chosen = METHODS[name], {}
    if space := method.space(shown.problem.noise):
        arguments = method.sampler, flow, tuning.loss, tuning.x0, space
        budget = len(method.candidates)
        chosen = choose(*arguments, budget=budget, seed=seed, score=tuning.distances, **method.fixed).options
    return SAMPLERS[method.sampler](flow, shown.loss, shown.x0, **method.fixed, **chosen).x


def _rows(cell: Cell, operator: str, shown: Seen, name: str, x: Tensor) -> Iterator[dict[str, Any]]:
    residuals = shown.problem.operator(x) - shown.measurements
    for i, image in enumerate(x):
        misfit = float(sample_distances.misfit(residuals[i : i + 1], shown.problem.noise))
        row = {"problem": "mnist", "path": cell.path, "operator": operator, "noise": shown.problem.noise}
        row |= {"image": name, "member": i, "misfit": misfit}
        yield from (row | {"pixel": j, "value": value} for j, value in enumerate(image.tolist()))
