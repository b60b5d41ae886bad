"""Held-out digits to restore: what is measured of them, what a sampler starts from, and what its images are worth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from analysis import checks
from analysis.guidance import Sample
from analysis.losses import Loss
from real_models import metrics
from real_models.images import data
from real_models.images.classifier import classifier, labels_of
from real_models.restoration.problems import ImageProblem


@dataclass(frozen=True)
class Task:
    """A problem with B images.

    Attributes
    ----------
    problem : how images are measured
    clean, y, x0 : (B, 784), (B, m) and (B, 784), the images, their measurements, and noise to start from
    labels, places : (B,), the true digits, and where the images stand among the held-out ones
    """

    problem: ImageProblem
    clean: Tensor
    y: Tensor
    x0: Tensor
    labels: Tensor
    places: Tensor

    @classmethod
    def draw(cls, problem: ImageProblem, count: int, generator: torch.Generator) -> Task:
        """Draw different held-out images: which, and their noise, does not depend on the problem."""
        clean, labels = data.held_out()
        if checks.count("count", count) > len(clean):
            raise ValueError(f"count must be at most the {len(clean)} held-out images, got {count}")
        places = torch.randperm(len(clean), generator=generator)[:count]
        x0 = torch.randn(count, clean.shape[1], generator=generator)
        y = problem.measure(clean[places], generator)
        return cls(problem, clean[places], y, x0, labels[places], places)

    def part(self, which: slice) -> Task:
        """Return the task with some of its images."""
        kept = {name: getattr(self, name)[which] for name in ("clean", "y", "x0", "labels", "places")}
        return replace(self, **kept)

    @property
    def loss(self) -> Loss:
        """The negative log-likelihood of the measurements, but for a constant."""
        return self.problem.loss(self.y)

    def score(self, found: Sample) -> Tensor:
        """Return, for each sample, minus the mean PSNR of all: what hyper-parameters are chosen by."""
        return -metrics.psnr(found.x, self.clean).mean().expand(len(found.x))

    def judge(self, x: Tensor) -> dict[str, Tensor]:
        """Return what restored images x (B, 784) are worth: metric -> (B,).

        PSNR in dB, SSIM, the misfit, and 1 where the classifier names the true digit, or what it names in the clean
        image.
        """
        network = classifier(str(x.device))

        def named(images: Tensor) -> Tensor:
            return labels_of(network, images)

        residuals = self.problem.operator(x) - self.y.to(x)
        found = {"psnr": metrics.psnr(x, self.clean), "ssim": metrics.ssim(x, self.clean)}
        found["misfit"] = metrics.misfit(residuals, self.problem.noise)
        found["label"] = metrics.agreement(named, x, self.labels)
        return found | {"clean_label": metrics.agreement(named, x, named(self.clean).cpu())}
