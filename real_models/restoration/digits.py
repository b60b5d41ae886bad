"""Held-out digits to restore: eight kinds of measurements of them, and metrics of restored images.

Images are flat, row-major, 28 x 28, with pixels in [-1, 1]. The measurements are those of ``analysis.operators``, six
linear and two nonlinear.
"""

from __future__ import annotations

import torch
from torch import Tensor

from analysis import checks
from analysis.guidance import Sample
from analysis.measurements import MeasuredBatch
from analysis.operators import NONLINEAR, OPERATORS, InverseProblem, inverse_problem
from real_models import metrics
from real_models.images import data
from real_models.images.classifier import classifier, labels_of

NAMES = (*(name for name in OPERATORS if name != "compressed_sensing"), *NONLINEAR)
RANGE_TOLERANCE = 1e-6  # by how much float32 pixels may leave [-1, 1]


def digits_problem(name: str, noise: float, **options: float) -> InverseProblem:
    """Return the named inverse problem of the digits; raises ``ValueError`` as ``inverse_problem`` does."""
    return inverse_problem(checks.known("name", name, NAMES), data.SIDE, noise, **options)


def checked_images(images: Tensor, name: str = "images") -> Tensor:
    """Check that images have shape (B, 784) and pixels in [-1, 1].

    Returns
    -------
    Tensor
        The images (B, 784).

    Raises
    ------
    ValueError
        For another shape, pixels that are not finite, and pixels outside [-1, 1].
    """
    size = data.SIDE**2
    if not isinstance(images, Tensor) or images.ndim != 2 or images.shape[1] != size or not len(images):
        got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"{name} must have shape (B, {size}), flat images of {data.SIDE} x {data.SIDE}; got {got}")
    largest = float(checks.finite(name, images).abs().max())
    if largest > 1 + RANGE_TOLERANCE:
        raise ValueError(f"{name} must have pixels in [-1, 1], got {largest:.6g} in absolute value")
    return images


def measured_digits(problem: InverseProblem, count: int, generator: torch.Generator) -> MeasuredBatch:
    """Measure ``count`` different held-out images once each, with one initial noise (784,) for each.

    The choice of images and of noise does not depend on the problem.

    Returns
    -------
    MeasuredBatch
        Of ``count`` measurements.

    Raises
    ------
    ValueError
        For more images than there are.
    """
    clean = data.held_out()[0]
    if checks.count("count", count) > len(clean):
        raise ValueError(f"count must be at most the {len(clean)} held-out images, got {count}")
    index = torch.randperm(len(clean), generator=generator)[:count]
    x0 = torch.randn(count, clean.shape[1], generator=generator)
    measurements = problem.measure(checked_images(clean[index]), generator)
    return MeasuredBatch(problem, clean[index], measurements, x0, index)


def labels(batch: MeasuredBatch) -> Tensor:
    """Return the true digits (B,) of a batch of held-out images."""
    return data.held_out()[1][batch.index]


def negative_psnr(batch: MeasuredBatch, sample: Sample) -> Tensor:
    """Return minus the mean PSNR of restored images, (): the score that selects hyper-parameters."""
    return -metrics.psnr(sample.x, batch.clean).mean()


def restoration_metrics(batch: MeasuredBatch, x: Tensor) -> dict[str, Tensor]:
    """Compare restored images x (B, 784) with the clean ones.

    Returns
    -------
    dict
        From a metric to its values (B,): PSNR in dB, SSIM, the misfit chi^2/m, and 1 where the classifier names the
        true digit ("label") or the digit that it names in the clean image ("clean_label").
    """
    network = classifier(str(x.device))

    def named(images: Tensor) -> Tensor:
        return labels_of(network, images)

    residuals = batch.problem.operator(x) - batch.measurements.to(x)
    return {
        "psnr": metrics.psnr(x, batch.clean),
        "ssim": metrics.ssim(x, batch.clean),
        "misfit": metrics.misfit(residuals, batch.problem.noise),
        "label": metrics.agreement(named, x, labels(batch)),
        "clean_label": metrics.agreement(named, x, named(batch.clean).cpu()),
    }
